// A process that does nothing but hold the relay role, and counts what it does.
import { subscribe } from 'node:diagnostics_channel';
import { Client } from 'pg';
import { connect } from 'sluice';
import { serve } from '../support/role.mjs';

const counts = { passes: 0, moved: 0, sleeps: 0, rotations: 0, failures: 0, notifications: 0 };
/** @type {import('sluice').Sluice} */
let sluice;
/** @type {Client} */
let witness;

subscribe('sluice:relay.passed', (message) => {
  counts.passes += 1;
  counts.moved += /** @type {{ moved: number }} */ (message).moved;
});
subscribe('sluice:relay.asleep', () => (counts.sleeps += 1));
subscribe('sluice:relay.rotated', () => (counts.rotations += 1));
subscribe('sluice:background.failed', (message) => {
  counts.failures += 1;
  console.error('the relay reports', message);
});

serve({
  /** @param {string} url */
  async open(url) {
    const held = new Promise((resolve) => subscribe('sluice:relay.role', resolve));
    sluice = await connect({ connectionString: url });
    await held;
    witness = new Client({ connectionString: url });
    await witness.connect();
    witness.on('notification', () => (counts.notifications += 1));
    const { rows } = await witness.query(
      `select substring(prosrc from 'sluice_relay_[0-9a-f]+') as channel from pg_proc
       where proname = 'ring' and pronamespace = 'sluice'::regnamespace`,
    );
    await witness.query(`listen "${rows[0].channel}"`);
  },
  /** What it did since the last time it was asked. */
  takeCounts() {
    const taken = { ...counts };
    for (const name of /** @type {(keyof typeof counts)[]} */ (Object.keys(counts))) counts[name] = 0;
    return taken;
  },
  async close() {
    await witness.end();
    await sluice.close();
  },
});
