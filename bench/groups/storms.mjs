// What a group does when very much falls due at once: a million retries, or 200 000 events whose consumers are gone. How
// many of those one consumer handles per second, and how late what is new meanwhile is: one event every 20 ms.
import { connect } from 'sluice';
import { payload } from '../support/payload.mjs';
import { round } from '../support/report.mjs';
import { withClient } from '../support/server.mjs';
import { percentile } from '../support/statistics.mjs';
import { prepareInFlight, prepareInFlightSingly, prepareRetries } from './states.mjs';
import { groupOf } from './systems/sluice.mjs';

const STREAM = 'storm';
const BATCH = 100;
const GAP_MS = 20;

/** @typedef {{ title: string, prepare: import('./states.mjs').Prepare, count: number, befall: string }} Storm */

/** @param {boolean} quick @returns {readonly Storm[]} */
const listStorms = (quick) => {
  const dueNow = `update sluice.pieces set due_at = clock_timestamp() - interval '1 minute'`;
  const expired = `update sluice.leases set expires_at = clock_timestamp() - interval '1 s'`;
  const inFlight = quick ? 20_000 : 200_000;
  return [
    {
      title: 'retries are due',
      prepare: prepareRetries,
      count: quick ? 50_000 : 1_000_000,
      befall: dueNow,
    },
    {
      title: `events were in leases of ${BATCH} that have expired`,
      prepare: prepareInFlight,
      count: inFlight,
      befall: expired,
    },
    {
      title: 'events were in as many leases that have expired',
      prepare: prepareInFlightSingly,
      count: inFlight,
      befall: expired,
    },
  ];
};

/** @param {import('../support/server.mjs').Server} server @param {boolean} quick @returns {Promise<import('../support/report.mjs').Report>} */
export async function measureStorms(server, quick) {
  /** @type {(string | number | null)[][]} */
  const rows = [];
  for (const { title, prepare, count, befall } of listStorms(quick)) {
    await server.withDatabase(async (url) => {
      await prepare(url, STREAM, count);
      await withClient(url, async (client) => {
        await client.query(befall);
        await client.query('vacuum (analyze)'); // time, which does the same, leaves no dead rows
      });
      const { perSecond, late } = await measure(url, quick ? 2000 : 12_000);
      const times = [0.5, 0.99, 1].map((part) => round(percentile(late, part)));
      rows.push([`${count} ${title}`, round(perSecond), ...times]);
    });
  }
  return {
    tables: [
      {
        title: `All at once, one consumer by ${BATCH}; new events meanwhile, in milliseconds`,
        columns: ['', 'handled/s', 'new: p50', 'p99', 'longest'],
        rows,
      },
    ],
  };
}

/** @param {string} url @param {number} ms @returns {Promise<{ perSecond: number, late: number[] }>} */
async function measure(url, ms) {
  const consumer = await connect({ connectionString: url, relay: false });
  const producer = await connect({ connectionString: url, relay: false });
  const ending = new AbortController();
  /** @type {number[]} */
  const late = [];
  const sent = new Set();
  let handled = 0;
  const consuming = groupOf(consumer, STREAM).consumeBatch(
    async (events) => {
      for (const { data } of events) {
        if (sent.has(data.at)) late.push(Number(process.hrtime.bigint() - BigInt(data.at)) / 1e6);
        else handled += 1;
      }
    },
    { maxBatch: BATCH, signal: ending.signal },
  );
  const started = performance.now();
  for (let n = 0; performance.now() - started < ms; n += 1) {
    const data = payload(1, n);
    sent.add(data.at);
    await producer.stream(STREAM).append(data);
    await new Promise((resolve) => setTimeout(resolve, GAP_MS));
  }
  const perSecond = (handled * 1000) / (performance.now() - started);
  ending.abort();
  await consuming;
  await producer.close();
  await consumer.close();
  return { perSecond, late };
}
