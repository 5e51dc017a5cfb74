// One stream to many connections in one process, its clients in another: events of 200 bytes, singly and in bursts of a
// hundred, the next round when everybody has had the last. Beside a bare node:http server that writes one shared buffer per
// event to every socket, and beside better-sse.
import { round } from './support/report.mjs';
import { startRole } from './support/role.mjs';
import { compare, median, percentile } from './support/statistics.mjs';

const BURST = 100;
const KINDS = ['bare', 'sluice', 'better-sse'];
/** Longer than anything goes on that is done while clients come. */
const SETTLE_MS = 1500;
const TURNS = 3;
/** Before what counts: until what runs for each event has been compiled, and for the last time. */
const WARM_ROUNDS = 20;
/** So that a p99 is not the slowest of a few. */
const MIN_ROUNDS = 100;
/** @typedef {{ perSecond: number, p50: number, p99: number, made: number[] }} Speed `made`: milliseconds of each round, see its server */
/** @typedef {{ kib: number, mib: number, singly: Speed, bursts: Speed }} Result */

/** @param {{ server: import('./support/server.mjs').Server, quick: boolean, tell: (line: string) => void }} context */
export async function run({ server, quick, tell }) {
  return server.withDatabase(async (url) => {
    const tables = [];
    for (const connections of countsOf(quick)) {
      /** @type {Record<string, Result[]>} */
      const results = { bare: [], sluice: [], 'better-sse': [] };
      for (let turn = 0; turn < TURNS; turn += 1) {
        for (const kind of KINDS) {
          const result = await measure(kind, url, connections, quick);
          results[kind]?.push(result);
          tell(`${connections} connections, ${kind}: ${toLine(result)}`);
        }
      }
      tables.push(toTable(connections, results));
    }
    return {
      tables,
      notes: [
        'Latency is from before the event is made to its arrival, on one connection in a hundred; with Sluice it begins with an append and its commit.',
        'Memory, after a collection: what is in use for one more connection, as the second half of them adds it; and all that is resident.',
      ],
    };
  });
}

/** How many connections are measured, one count after the other. @param {boolean} quick */
function countsOf(quick) {
  const asked = process.env['SLUICE_BENCH_CONNECTIONS'];
  if (asked !== undefined) return asked.split(',').map(Number);
  return quick ? [500] : [1000, 5000, 10_000];
}

/** @param {string} kind @param {string} url @param {number} connections @param {boolean} quick @returns {Promise<Result>} */
async function measure(kind, url, connections, quick) {
  const serving = await startRole('fanout-server', kind, url);
  try {
    const [port, controlPort] = await serving.call('ports');
    const clients = await startRole('fanout-clients', port, controlPort);
    try {
      /** Once so many more are connected. @param {number} count */
      const memoryWith = async (count) => {
        await clients.call('connect', count);
        await new Promise((done) => setTimeout(done, SETTLE_MS));
        return serving.call('memory');
      };
      const before = await memoryWith(connections / 2);
      const { inUse, resident } = await memoryWith(connections / 2);
      const kib = (inUse - before.inUse) / (connections / 2) / 1024;
      const deliveries = quick ? 100_000 : 300_000;
      /** @param {number} size @param {number} rounds @returns {Promise<Speed>} */
      const send = async (size, rounds) => {
        await clients.call('expect', size);
        const { ms, made } = await serving.call('run', rounds, size);
        const latencies = await clients.call('latencies');
        return {
          perSecond: (rounds * size * connections * 1000) / ms,
          p50: percentile(latencies, 0.5) / 1000,
          p99: percentile(latencies, 0.99) / 1000,
          made,
        };
      };
      await send(1, WARM_ROUNDS);
      const singly = await send(1, Math.max(MIN_ROUNDS, Math.round(deliveries / connections)));
      await send(BURST / 10, 1);
      const bursts = await send(BURST, Math.max(1, Math.round((deliveries * 3) / connections / BURST)));
      return { kib, mib: resident / 2 ** 20, singly, bursts };
    } finally {
      await clients.stop();
    }
  } finally {
    await serving.stop();
  }
}

/** @param {Result} result */
const toLine = ({ kib, singly, bursts }) =>
  `${round(singly.perSecond)}/s singly, p99 ${round(singly.p99)} ms; ${round(bursts.perSecond)}/s in bursts; ${round(kib)} KiB a connection`;

/** @param {number} connections @param {Record<string, Result[]>} results */
function toTable(connections, results) {
  /** @param {string} kind @param {(result: Result) => number} of */
  const values = (kind, of) => (results[kind] ?? []).map(of);
  /** @param {string} kind */
  const row = (kind) => {
    /** @param {(result: Result) => number} of */
    const cell = (of) => {
      const { ours, ratio } = compare(values(kind, of), values('bare', of));
      return kind === 'bare' ? round(ours) : `${round(ours)} (${round(ratio)} ×)`;
    };
    /** @param {number} part */
    const made = (part) => median(values(kind, ({ singly }) => percentile(singly.made, part)));
    return [
      kind,
      cell(({ singly }) => singly.perSecond),
      cell(({ singly }) => singly.p50),
      cell(({ singly }) => singly.p99),
      kind === 'sluice' ? `${round(made(0.5))}; ${round(made(0.99))}` : '',
      cell(({ bursts }) => bursts.perSecond),
      cell(({ bursts }) => bursts.p99),
      cell(({ kib }) => kib),
      cell(({ mib }) => mib),
    ];
  };
  const singleBare = median(values('bare', ({ singly }) => singly.perSecond));
  const burstOurs = median(values('sluice', ({ bursts }) => bursts.perSecond));
  return {
    title: `${connections} connections; bursts of ${BURST}: ${round(burstOurs / singleBare)} × the bare server's single events`,
    columns: [
      '',
      'deliveries/s, singly',
      'p50 ms',
      'p99 ms',
      'append p50; p99 ms',
      `deliveries/s, bursts of ${BURST}`,
      'p99 ms',
      'KiB a connection',
      'MiB in all',
    ],
    rows: KINDS.map(row),
  };
}
