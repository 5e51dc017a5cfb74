// A process that does nothing but hold the relay role, and counts what it does.
import { subscribe } from 'node:diagnostics_channel';
import { connect } from 'sluice';
import { serve } from '../support/role.mjs';

const counts = { passes: 0, moved: 0, sleeps: 0, rotations: 0, failures: 0, passMs: 0 };
/** @type {import('sluice').Sluice} */
let sluice;

subscribe('sluice:relay.passed', (message) => {
  const { moved, ms } = /** @type {{ moved: number, ms: number }} */ (message);
  counts.passes += 1;
  counts.moved += moved;
  counts.passMs += ms;
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
  },
  /** What it did since the last time it was asked. */
  takeCounts() {
    const taken = { ...counts };
    for (const name of /** @type {(keyof typeof counts)[]} */ (Object.keys(counts))) counts[name] = 0;
    return taken;
  },
  close: () => sluice.close(),
});
