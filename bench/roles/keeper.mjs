// A process that has the relay role and lets go of events: told when to begin, it trims a part of the long stream and
// bounds the hot one; told to finish, it takes the bound away and resolves when no row is left to remove.
import { subscribe } from 'node:diagnostics_channel';
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'pg';
import { connect } from 'sluice';
import { serve } from '../support/role.mjs';

/** @type {import('sluice').Sluice} */
let sluice;
/** @type {Client} */
let client;
const hot = 'orders/0';
/** @type {{ events: number, ms: number }[]} */
const batches = [];
let starts = 0;

subscribe('sluice:retention.purged', (message) => {
  batches.push(/** @type {{ events: number, ms: number }} */ (message));
});
subscribe('sluice:retention.enforced', (message) => {
  starts += /** @type {{ trimmed: number }} */ (message).trimmed;
});

serve({
  async open(/** @type {string} */ url, /** @type {number} */ retentionIntervalMs) {
    sluice = await connect({ connectionString: url, retentionIntervalMs });
    client = new Client({ connectionString: url });
    await client.connect();
  },
  /** Resolves with how long the trim took, in milliseconds. */
  async begin(/** @type {number} */ count, /** @type {number} */ kept) {
    await sluice.configureStream(hot, { maxCount: kept });
    const long = sluice.stream('long');
    const { oldest = 1n } = (await long.info()) ?? {};
    const started = performance.now();
    await long.trim({ before: oldest + BigInt(count) });
    return performance.now() - started;
  },
  async finish() {
    await sluice.configureStream(hot, { maxCount: null });
    while ((await client.query('select from sluice.purges limit 1')).rowCount !== 0) await delay(20);
  },
  report: () => ({ batches, starts }),
  async close() {
    await client.end();
    await sluice.close();
  },
});
