// A process that notifies: in bulk as fast as it can, one at a time, or so many a second. What is numbered counts from 0
// on each channel; what is timed carries the moment just before its statement was sent (process.hrtime is one clock for
// all processes of a machine).
import { Pool } from 'pg';
import { channelPrefix } from '../support/channels.mjs';
import { serve } from '../support/role.mjs';

/** As a service would have them: at 1 000 a second one connection would be a queue. */
const CONNECTIONS = 10;
/** In one transaction. */
const BATCH = 500;

/** @type {Pool} */
let pool;

/** @param {number} ms */
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** @param {number} channel */
const notifyTime = (channel) =>
  pool.query({
    name: 'time',
    text: `select pg_notify('${channelPrefix}' || $1::integer, $2)`,
    values: [channel, String(process.hrtime.bigint())],
  });

serve({
  async open(/** @type {string} */ url) {
    pool = new Pool({ connectionString: url, max: CONNECTIONS });
    await pool.query('select');
  },
  /**
   * So many, numbered, spread over so many channels from the first on; resolves with when it began.
   *
   * @param {{ count: number, first: number, spread: number }} what
   */
  async bulk({ count, first, spread }) {
    const beganNs = Number(process.hrtime.bigint());
    for (let from = 0; from < count; from += BATCH) {
      await pool.query({
        name: 'bulk',
        text: `select count(pg_notify('${channelPrefix}' || ($1::integer + n % $2::integer), (n / $2::integer)::text))
               from generate_series($3::integer, $4::integer) n`,
        values: [first, spread, from, Math.min(from + BATCH, count) - 1],
      });
    }
    return beganNs;
  },
  /** One after another, with a pause in between. */
  async idle(/** @type {number} */ channel, /** @type {number} */ count, /** @type {number} */ gapMs) {
    for (let n = 0; n < count; n += 1) {
      await notifyTime(channel);
      await pause(gapMs * (0.5 + Math.random()));
    }
  },
  /** So many in all and so many a second, whether or not the ones before have ended. */
  async steady(/** @type {number} */ channel, /** @type {number} */ count, /** @type {number} */ perSecond) {
    const started = performance.now();
    const calls = [];
    while (calls.length < count) {
      const due = Math.min(count, ((performance.now() - started) * perSecond) / 1000);
      while (calls.length < due) calls.push(notifyTime(channel));
      await pause(1);
    }
    await Promise.all(calls);
  },
  close: () => pool.end(),
});
