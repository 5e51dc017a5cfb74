// A process that reads: by subscription, or with a bare LISTEN. It keeps how long each event took from the moment the
// writer stamped it (process.hrtime is one clock for all processes of a machine).
import { Client } from 'pg';
import { connect } from 'sluice';
import { serve } from '../support/role.mjs';

/** @type {import('sluice').Sluice} */
let sluice;
/** @type {Client} */
let listener;
/** @type {number[]} */
let times = [];

/** @param {string} stamp */
const arrived = (stamp) => times.push(Number(process.hrtime.bigint() - BigInt(stamp)) / 1e6);

/** @param {string} name */
async function follow(name) {
  const events = sluice.stream(name).subscribe({ after: 'end' });
  await events.ready;
  void (async () => {
    for await (const { data } of events) arrived(/** @type {{ at: string }} */ (data).at);
  })();
}

serve({
  /** @param {string} url */
  async open(url) {
    sluice = await connect({ connectionString: url, relay: false });
    for (const name of ['published', 'appended']) {
      await sluice.createStream(name);
      await follow(name);
    }
    listener = new Client({ connectionString: url });
    await listener.connect();
    listener.on('notification', ({ payload }) => arrived(payload ?? '0'));
    await listener.query('listen bare');
  },
  /** Resolves with the milliseconds of each when so many have arrived. */
  async take(/** @type {number} */ count) {
    const started = performance.now();
    while (times.length < count) {
      if (performance.now() - started > 15_000)
        throw new Error(`${times.length} of ${count} arrived in 15 s`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    const taken = times;
    times = [];
    if (taken.length > count) throw new Error(`${taken.length} arrived instead of ${count}`);
    return taken;
  },
  async close() {
    await listener.end();
    await sluice.close();
  },
});
