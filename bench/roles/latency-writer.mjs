// A process that writes one event after another and stamps each with the time: how it is read elsewhere is measured
// there (latency-reader), against the same clock of the machine.
import { Pool } from 'pg';
import { connect } from 'sluice';
import { payload } from '../support/payload.mjs';
import { serve } from '../support/role.mjs';
import { insertPlainEvent, plainEvent } from '../support/tables.mjs';

/** As many as a Sluice has, so that both sides are as parallel. */
const CONNECTIONS = 10;

/** @type {import('sluice').Sluice} */
let sluice;
/** @type {Pool} */
let pool;
let written = 0;
let halting = new AbortController();

/** @type {Record<string, () => Promise<unknown>>} */
const writes = {
  publish: () => sluice.stream('published').publish(payload(1, (written += 1)), { type: 'order.paid' }),
  append: () => sluice.stream('appended').append(payload(1, (written += 1)), { type: 'order.paid' }),
  notify: () =>
    pool.query({
      name: 'notify',
      text: `select pg_notify('bare', $1)`,
      values: [String(process.hrtime.bigint())],
    }),
  commit: () =>
    pool.query({ name: 'commit', text: insertPlainEvent, values: plainEvent(payload(1, (written += 1))) }),
};

/** @param {number} ms */
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

serve({
  /** @param {string} url */
  async open(url) {
    sluice = await connect({ connectionString: url, relay: false });
    pool = new Pool({ connectionString: url, max: CONNECTIONS });
  },
  /** One at a time with a pause after each, so that everything has come to rest; the milliseconds of each call. */
  async idle(/** @type {string} */ what, /** @type {number} */ count, /** @type {number} */ gapMs) {
    const times = [];
    for (let n = 0; n < count; n += 1) {
      const started = performance.now();
      await writes[what]?.();
      times.push(performance.now() - started);
      await pause(gapMs * (0.5 + Math.random()));
    }
    return times;
  },
  /** So many a second whether or not the ones before have ended, for so long or until halted; the milliseconds of each call. */
  async steady(/** @type {string} */ what, /** @type {number} */ perSecond, /** @type {number} */ ms) {
    halting = new AbortController();
    const { signal } = halting;
    const started = performance.now();
    /** @type {number[]} */
    const times = [];
    const calls = [];
    while (!signal.aborted && performance.now() - started < ms) {
      const due = ((performance.now() - started) * perSecond) / 1000;
      while (calls.length < due) {
        const begun = performance.now();
        calls.push(writes[what]?.().then(() => times.push(performance.now() - begun)));
      }
      await pause(1);
    }
    await Promise.all(calls);
    return times;
  },
  halt: () => halting.abort(),
  async close() {
    await pool.end();
    await sluice.close();
  },
});
