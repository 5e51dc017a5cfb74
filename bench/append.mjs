// Appending from one process. Many concurrent callers share calls of the database: against a raw insert of many rows,
// this shows what numbering, locking and answering every caller cost; against one connection per caller that inserts its
// own row, what sharing gains; and callers that share raw inserts, how much of that gain numbers and locks leave.
import { round } from './support/report.mjs';
import { startRole } from './support/role.mjs';
import { inTurn } from './support/rounds.mjs';
import { withClient } from './support/server.mjs';
import { compare, median } from './support/statistics.mjs';
import { plainEvents, rawEvents } from './support/tables.mjs';

const BATCH = 1000;
const CALLERS = [16, 128];
const STREAMS = 16;

/** @param {{ server: import('./support/server.mjs').Server, quick: boolean }} context */
export async function run({ server, quick }) {
  const rounds = quick ? 2 : 5;
  const ms = quick ? 700 : 1500;
  return server.withDatabase(async (url) => {
    await withClient(url, (client) => client.query(`${plainEvents}; ${rawEvents}`));
    const writers = await startRole('writers', url, Math.max(...CALLERS));
    try {
      await writers.call('append', BATCH, 1, 500);
      await writers.call('raw', BATCH, 500);
      const batches = await measureBatches(writers, { rounds, ms });
      const callers = [];
      for (const count of CALLERS) callers.push(await measureCallers(writers, count, { rounds, ms }));
      return {
        tables: [
          batches.table,
          { title: CALLERS_TITLE, columns: CALLERS_COLUMNS, rows: callers.flatMap(({ rows }) => rows) },
        ],
        targets: [
          {
            what: 'coalesced append against a raw insert of 1 000 rows',
            atLeast: 0.6,
            measured: batches.ratio,
          },
          {
            what: '16 callers against 16 connections',
            atLeast: 2.5,
            measured: callers[0]?.ratio ?? Number.NaN,
          },
        ],
        notes: [await checkLog(url)],
      };
    } finally {
      await writers.stop();
    }
  });
}

const CALLERS_TITLE =
  'Concurrent callers of append in one process, and as many connections with plain inserts';
const CALLERS_COLUMNS = ['', 'plain inserts /s', '/s', 'ratio', 'rounds', 'events per call'];

/** @param {import('./support/role.mjs').Role} writers @param {{ rounds: number, ms: number }} how */
async function measureBatches(writers, { rounds, ms }) {
  /** @type {number[]} */
  const perCall = [];
  const { raw = [], append = [] } = await inTurn(rounds, {
    raw: () => writers.call('raw', BATCH, ms),
    append: async () => {
      const result = await writers.call('append', BATCH, 1, ms);
      perCall.push(result.perCall);
      return result.perSecond;
    },
  });
  const { ours, raw: limit, ratio, worst, best } = compare(append, raw);
  return {
    ratio,
    table: {
      title: `${BATCH} concurrent callers of append on one stream, and a raw insert of as many rows`,
      columns: ['', 'raw rows /s', 'append /s', 'ratio', 'rounds', 'events per call'],
      rows: [
        [
          '1 stream',
          round(limit),
          round(ours),
          round(ratio),
          `${round(worst)}–${round(best)}`,
          round(median(perCall)),
        ],
      ],
    },
  };
}

/** @param {import('./support/role.mjs').Role} writers @param {number} callers @param {{ rounds: number, ms: number }} how */
async function measureCallers(writers, callers, { rounds, ms }) {
  /** @type {Record<number, number[]>} */
  const perCall = { 1: [], [STREAMS]: [] };
  const append = (/** @type {number} */ streams) => async () => {
    const result = await writers.call('append', callers, streams, ms);
    perCall[streams]?.push(result.perCall);
    return result.perSecond;
  };
  const {
    plain = [],
    hot = [],
    spread = [],
    shared = [],
  } = await inTurn(rounds, {
    plain: () => writers.call('plain', callers, ms),
    hot: append(1),
    spread: append(STREAMS),
    shared: () => writers.call('shared', callers, ms),
  });
  const row = (
    /** @type {string} */ name,
    /** @type {number[]} */ rates,
    /** @type {number[]} */ batches,
  ) => {
    const { ours, raw, ratio, worst, best } = compare(rates, plain);
    const batch = batches.length > 0 ? round(median(batches)) : '';
    return [name, round(raw), round(ours), round(ratio), `${round(worst)}–${round(best)}`, batch];
  };
  return {
    ratio: compare(hot, plain).ratio,
    rows: [
      row(`${callers}, append, 1 stream`, hot, perCall[1] ?? []),
      row(`${callers}, append, ${STREAMS} streams`, spread, perCall[STREAMS] ?? []),
      row(`${callers} that share raw inserts`, shared, []),
    ],
  };
}

/** Every stream must be dense. @param {string} url */
async function checkLog(url) {
  const [row] = await withClient(url, async (client) => {
    const { rows } = await client.query(
      `select count(*)::integer as streams, sum(events)::integer as events, bool_and(events = head) as dense
       from (select count(*) as events, max("offset") as head from sluice.events group by stream_id) s`,
    );
    return rows;
  });
  if (!row.dense) throw new Error('a stream has a gap');
  return `All ${row.streams} streams are dense; ${row.events} events were appended.`;
}
