// What clients that do not read cost those who do: one stream at 500 events a second to 100 clients, beside none, 1, 5 and
// 20 connections that asked for all there is and took nothing once their socket was full.
import { fillStream } from './support/fill.mjs';
import { round } from './support/report.mjs';
import { startRole } from './support/role.mjs';
import { inTurn } from './support/rounds.mjs';
import { compare, median } from './support/statistics.mjs';

const STREAM = 'appended'; // the one that latency-writer appends to
const PER_SECOND = 500;
/** Far more than the kernel holds for a connection that is not read. */
const PAST = 40_000;
const READERS = 100;
const STALLED = [0, 1, 5, 20];
const TARGET = 1.25;
const FULL_WITHIN_MS = 10_000;

/** @typedef {Readonly<Record<'serving' | 'clients' | 'writer', import('./support/role.mjs').Role>>} Roles */
/** @typedef {{ count: number, p50: number, p99: number }} Latency */

/** @param {{ server: import('./support/server.mjs').Server, quick: boolean }} context */
export async function run({ server, quick }) {
  return server.withDatabase(async (url) => {
    await fillStream(url, STREAM, PAST);
    const serving = await startRole('stream-server', 'sluice', url, { stream: STREAM });
    const clients = await startRole('stream-clients', await serving.call('port'), STREAM);
    const writer = await startRole('latency-writer', url);
    try {
      await clients.call('watch', READERS);
      await clients.call('known', PAST);
      const roles = { serving, clients, writer };
      const ms = quick ? 2000 : 5000;
      await measure(roles, 0, ms); // warm
      /** @param {number} stalled */
      const measured = (stalled) =>
        /** @type {const} */ ([String(stalled), () => measure(roles, stalled, ms)]);
      return toReport(await inTurn(quick ? 3 : 5, Object.fromEntries(STALLED.map(measured))));
    } finally {
      await Promise.all([writer.stop(), clients.stop()]);
      await serving.stop();
    }
  });
}

/** @param {Roles} roles @param {number} stalled @param {number} ms @returns {Promise<Latency>} */
async function measure({ serving, clients, writer }, stalled, ms) {
  await clients.call('stall', stalled);
  await full(serving, stalled);
  await clients.call('take');
  const sent = await writer.call('steady', 'append', PER_SECOND, ms);
  const { stayed } = await clients.call('take', sent.length * READERS);
  await full(serving, stalled); // none was let go of meanwhile
  await clients.call('release');
  return stayed;
}

/** Resolves when so many connections can take no more. @param {import('./support/role.mjs').Role} serving @param {number} count */
async function full(serving, count) {
  const started = performance.now();
  for (let now = -1; now !== count; now = await serving.call('full')) {
    if (performance.now() - started > FULL_WITHIN_MS) throw new Error(`${now} of ${count} are full`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** @param {Record<string, Latency[]>} results @returns {import('./support/report.mjs').Report} */
function toReport(results) {
  /** @param {number} stalled @param {(result: Latency) => number} of */
  const values = (stalled, of) => (results[stalled] ?? []).map(of);
  /** @param {Latency} latency */
  const p99 = (latency) => latency.p99;
  const compared = STALLED.map((stalled) => ({
    stalled,
    p50: median(values(stalled, ({ p50 }) => p50)),
    ...compare(values(stalled, p99), values(0, p99)),
  }));
  return {
    tables: [
      {
        title: `Delivery latency of ${READERS} clients at ${PER_SECOND} events/s, beside so many that do not read`,
        columns: ['stalled', 'p50 ms', 'p99 ms', 'p99 × none', 'rounds'],
        rows: compared.map(({ stalled, p50, ours, ratio, worst, best }) => [
          String(stalled),
          round(p50),
          round(ours),
          round(ratio),
          `${round(worst)}–${round(best)}`,
        ]),
      },
    ],
    targets: compared
      .filter(({ stalled }) => stalled > 0)
      .map(({ stalled, ratio }) => ({
        what: `p99 beside ${stalled} stalled`,
        atMost: TARGET,
        measured: ratio,
      })),
  };
}
