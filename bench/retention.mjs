// What it costs writers that old events go: appends to a hot stream that is kept to its newest events, while a long one
// has been trimmed and its rows are removed in the background, beside the same appends with nothing to let go of.
import { round } from './support/report.mjs';
import { startRole } from './support/role.mjs';
import { inTurn } from './support/rounds.mjs';
import { withClient } from './support/server.mjs';
import { compare, median, percentile } from './support/statistics.mjs';

const CALLERS = 16;
const KEPT = 2000;
/** Far shorter than the default, so that a round of a second or two sees several. */
const INTERVAL_MS = 250;

/** @param {{ server: import('./support/server.mjs').Server, quick: boolean }} context */
export async function run({ server, quick }) {
  const rounds = quick ? 2 : 5;
  const ms = quick ? 1000 : 2500;
  const perRound = quick ? 100_000 : 400_000;
  return server.withDatabase(async (url) => {
    await withClient(url, (client) => fill(client, perRound * rounds));
    const writers = await startRole('writers', url, 1);
    const keeper = await startRole('keeper', url, INTERVAL_MS);
    try {
      await writers.call('appendTimed', CALLERS, 500);
      return await measure({ url, writers, keeper }, { rounds, ms, perRound });
    } finally {
      await Promise.all([writers.stop(), keeper.stop()]);
    }
  });
}

/**
 * @param {{ url: string, writers: import('./support/role.mjs').Role, keeper: import('./support/role.mjs').Role }} roles
 * @param {{ rounds: number, ms: number, perRound: number }} how
 */
async function measure({ url, writers, keeper }, { rounds, ms, perRound }) {
  /** @type {Record<'without' | 'with', { longest: number[], p99: number[] }>} */
  const waits = { without: { longest: [], p99: [] }, with: { longest: [], p99: [] } };
  /** @type {number[]} */
  const trims = [];
  const append = async (/** @type {'without' | 'with'} */ side) => {
    const { perSecond, longestMs, p99Ms } = await writers.call('appendTimed', CALLERS, ms);
    waits[side].longest.push(longestMs);
    waits[side].p99.push(p99Ms);
    return perSecond;
  };
  const { without = [], with: retained = [] } = await inTurn(rounds, {
    without: () => append('without'),
    with: async () => {
      trims.push(await keeper.call('begin', perRound, KEPT));
      const rate = await append('with');
      await keeper.call('finish'); // what is left of the work is done before the next round
      return rate;
    },
  });
  const { batches, starts } = await keeper.call('report');
  const events = batches.reduce((/** @type {number} */ sum, /** @type {any} */ each) => sum + each.events, 0);
  const times = batches.map((/** @type {any} */ each) => each.ms);
  const { ours, raw, ratio, worst, best } = compare(retained, without);
  const wait = (/** @type {'without' | 'with'} */ side) => [
    round(median(waits[side].p99)),
    round(Math.max(...waits[side].longest)),
  ];
  return {
    tables: [
      {
        title: `Appends by ${CALLERS} callers to one stream, without and with retention at work`,
        columns: ['', 'append /s', 'p99 ms', 'longest ms', 'ratio', 'rounds'],
        rows: [
          ['nothing to let go of', round(raw), ...wait('without'), null, null],
          ['retention at work', round(ours), ...wait('with'), round(ratio), `${round(worst)}–${round(best)}`],
        ],
      },
      {
        title: 'The work of letting go',
        columns: ['', 'times', 'events', 'median ms', 'p99 ms', 'longest ms'],
        rows: [
          [
            `trim of ${perRound} events`,
            trims.length,
            trims.length * perRound,
            round(median(trims)),
            null,
            round(Math.max(...trims)),
          ],
          [
            'removal of a batch of rows',
            batches.length,
            events,
            round(median(times)),
            round(percentile(times, 0.99)),
            round(Math.max(...times)),
          ],
        ],
      },
    ],
    notes: [`The hot stream's own start moved ${starts} times. ${await checkLog(url)}`],
  };
}

/** A long stream, as one that has been written for years. @param {import('pg').Client} client @param {number} count */
async function fill(client, count) {
  await client.query(`select sluice.create_stream('long')`);
  await client.query(
    `insert into sluice.events (stream_id, "offset", at, tag, size, type, data)
     select s.id, n, clock_timestamp(), n, 200, 'order.paid', to_json(rpad('', 198, md5(n::text)))
     from sluice.streams s, generate_series(1, $1::integer) n where s.name = 'long'`,
    [count],
  );
  await client.query('vacuum analyze sluice.events');
}

/** What can be read is there, and what cannot is gone. @param {string} url */
async function checkLog(url) {
  const [row] = await withClient(url, async (client) => {
    const { rows } = await client.query(
      `select sum(count)::integer as events, bool_and(count = last - trimmed_to and first = trimmed_to + 1) as dense
       from sluice.streams s cross join lateral (
         select count(*), min("offset") as first, max("offset") as last from sluice.events where stream_id = s.id
       ) e where e.count > 0`,
    );
    return rows;
  });
  if (!row.dense) throw new Error('a stream has a gap, or rows before its start');
  return `${row.events} events are left, at dense offsets from each stream's start on.`;
}
