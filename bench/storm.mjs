// Everybody comes back at once, as after a deployment or a lost network: clients with cursors up to 5 000 events old, while
// another process appends 500 orders a second. How long until all are live again, and what does it cost those who stayed?
// Beside two bare node:http servers that make the orders themselves: one answers with the same bytes from its memory, one
// only accepts. The appends go on beside all three, so that each has the same neighbours.
import { fillStream } from './support/fill.mjs';
import { round } from './support/report.mjs';
import { startRole } from './support/role.mjs';
import { inTurn } from './support/rounds.mjs';
import { compare, median } from './support/statistics.mjs';

const STREAM = 'appended'; // the one that latency-writer appends to
const PER_SECOND = 500;
const OLDEST = 5000;
const WATCHERS = 50;
const TARGET = 3;
const KINDS = ['accept', 'bare', 'sluice'];
const LONGEST_MS = 300_000;

/** @typedef {{ count: number, p50: number, p99: number }} Latency */
/** @typedef {{ halfMs: number, allMs: number, cpuMs: number, before: Latency, during: Latency, returned: Latency, after: Latency }} Result */

/** @param {{ server: import('./support/server.mjs').Server, quick: boolean, tell: (line: string) => void }} context */
export async function run({ server, quick, tell }) {
  const clients = quick ? 300 : 2000;
  return server.withDatabase(async (url) => {
    await fillStream(url, STREAM, OLDEST);
    const writer = await startRole('latency-writer', url);
    try {
      /** @param {string} kind */
      const measured = (kind) => {
        const measureAndTell = async () => {
          const result = await measure(kind, { url, writer, clients, quick });
          tell(`${kind}: ${toLine(result)}`);
          return result;
        };
        return /** @type {const} */ ([kind, measureAndTell]);
      };
      const results = await inTurn(quick ? 2 : 5, Object.fromEntries(KINDS.map(measured)));
      return toReport(clients, results);
    } finally {
      await writer.stop();
    }
  });
}

/**
 * @param {string} kind
 * @param {{ url: string, writer: import('./support/role.mjs').Role, clients: number, quick: boolean }} how
 * @returns {Promise<Result>}
 */
async function measure(kind, { url, writer, clients: count, quick }) {
  const serving = await startRole('stream-server', kind, url, {
    stream: STREAM,
    past: OLDEST,
    perSecond: PER_SECOND,
  });
  const clients = await startRole('stream-clients', await serving.call('port'), STREAM);
  const pause = () => new Promise((resolve) => setTimeout(resolve, quick ? 1000 : 2000));
  const writing = writer.call('steady', 'append', PER_SECOND, LONGEST_MS);
  try {
    await clients.call('watch', WATCHERS);
    await clients.call('known', OLDEST);
    await clients.call('take'); // what was live while they caught up
    await pause();
    const { stayed: before } = await clients.call('take');
    const cpuBefore = await serving.call('cpuMs');
    /** @type {number[]} */
    const times = await clients.call('storm', count, OLDEST, kind !== 'accept');
    const cpuMs = (await serving.call('cpuMs')) - cpuBefore;
    const { stayed: during, returned } = await clients.call('take');
    await pause();
    const { stayed: after } = await clients.call('take');
    return { halfMs: median(times), allMs: Math.max(...times), cpuMs, before, during, returned, after };
  } finally {
    await writer.call('halt');
    await clients.stop();
    await serving.stop();
    await writing;
  }
}

/** @param {Result} result */
const toLine = ({ halfMs, allMs, cpuMs, during }) =>
  `half live after ${round(halfMs)} ms, all after ${round(allMs)} ms, ${round(cpuMs)} ms of its processor; p99 of who stayed ${round(during.p99)} ms`;

/** @param {number} clients @param {Record<string, Result[]>} results @returns {import('./support/report.mjs').Report} */
function toReport(clients, results) {
  /** @param {string} kind @param {(result: Result) => number} of */
  const values = (kind, of) => (results[kind] ?? []).map(of);
  /** @param {string} kind @param {(result: Result) => number} of */
  const middle = (kind, of) => round(median(values(kind, of)));
  /** @param {string} kind @param {string} beside @param {(result: Result) => number} of */
  const against = (kind, beside, of) => compare(values(kind, of), values(beside, of));
  /** @param {Result} result */
  const all = ({ allMs }) => allMs;
  return {
    tables: [
      {
        title: `${clients} clients come back at once, 0 to ${OLDEST} events behind, at ${PER_SECOND} events/s`,
        columns: ['', 'half live, ms', 'all live, ms', '× bare', 'rounds', '× accept', 'its processor, ms'],
        rows: KINDS.map((kind) => {
          const { ratio, worst, best } = against(kind, 'bare', all);
          return [
            kind,
            middle(kind, ({ halfMs }) => halfMs),
            middle(kind, all),
            round(ratio),
            `${round(worst)}–${round(best)}`,
            round(against(kind, 'accept', all).ratio),
            middle(kind, ({ cpuMs }) => cpuMs),
          ];
        }),
      },
      {
        title: 'Delivery latency p99, ms',
        columns: [
          '',
          `${WATCHERS} live, before`,
          'during: who stayed',
          'who is live again',
          'all live, after',
        ],
        rows: KINDS.map((kind) => [
          kind,
          middle(kind, ({ before }) => before.p99),
          middle(kind, ({ during }) => during.p99),
          middle(kind, ({ returned }) => returned.p99),
          middle(kind, ({ after }) => after.p99),
        ]),
      },
    ],
    targets: [
      {
        what: 'all live again, against a bare server that answers with the same events',
        atMost: TARGET,
        measured: against('sluice', 'bare', all).ratio,
      },
    ],
    notes: [
      'Live: has an event that was made after the storm began. Latency is from the making of an event, before its append, to its arrival.',
    ],
  };
}
