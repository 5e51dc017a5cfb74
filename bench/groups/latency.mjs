// From just before an event is sent to its handler's call in another process: one every 50 ms, and 1 000 a second. The
// least that it can take is a committed row with a NOTIFY.
import { round } from '../support/report.mjs';
import { startRole } from '../support/role.mjs';
import { inTurn } from '../support/rounds.mjs';
import { median, percentile } from '../support/statistics.mjs';
import { importSystem, liveSystems } from './system.mjs';

const GAP_MS = 50;
const PER_SECOND = 1000;
const BATCH = 100;
const STEADY_TARGET = 5;
/** How long after the last was sent they may come. */
const LIMIT_MS = 5000;

/** @typedef {import('../support/role.mjs').Role} Role */
/** @typedef {{ times: number[], sent: number }} Measured */
/** @typedef {Record<string, Measured[]>} Results of each system, round by round */
/** @typedef {{ title: string, consumers: number, send: (producer: Role) => Promise<number> }} Case */

/** @param {string} url @param {readonly string[]} names @param {boolean} quick @returns {Promise<import('../support/report.mjs').Report>} */
export async function measureLatency(url, names, quick) {
  const idle = (/** @type {Role} */ producer) => producer.call('idle', quick ? 20 : 60, GAP_MS);
  const steady = (/** @type {Role} */ producer) => producer.call('steady', PER_SECOND, quick ? 700 : 3000);
  const tables = [];
  /** @type {import('../support/report.mjs').Target[]} */
  const targets = [];
  for (const consumers of [1, 8]) {
    const suffix = `, ${consumers} consumer${consumers === 1 ? '' : 's'}, milliseconds`;
    const rounds = quick ? 1 : 5;
    const atRest = await measureCase(url, names, { title: 'idle', consumers, send: idle }, rounds);
    tables.push(toTable(`Idle: one every ${GAP_MS} ms${suffix}`, atRest));
    targets.push(...idleTargets(atRest, consumers));
    const busy = await measureCase(url, names, { title: 'steady', consumers, send: steady }, rounds);
    tables.push(toTable(`Steady: ${PER_SECOND} a second${suffix}`, busy));
    targets.push(...steadyTargets(busy, consumers));
  }
  return { tables, targets };
}

/** @param {string} url @param {readonly string[]} names @param {Case} what @param {number} rounds @returns {Promise<Results>} */
function measureCase(url, names, what, rounds) {
  const measurements = names.map((name) => [name, () => measure(url, name, what)]);
  return inTurn(rounds, Object.fromEntries(measurements));
}

/** @param {string} url @param {string} name @param {Case} what @returns {Promise<Measured>} */
async function measure(url, name, { consumers, send }) {
  const where = await (await importSystem(name)).load(url, 0);
  const consumer = await startRole('group-consumers', url, name);
  const producer = await startRole('group-producer', url, name, where);
  try {
    await consumer.call('follow', { consumers, batch: BATCH, live: true, ...(where && { where }) });
    await producer.call('idle', 20, 10); // statements planned, connections open
    await producer.call('steady', 200, 500);
    await consumer.call('take', 120, 3000);
    const sent = await send(producer);
    return { sent, times: await consumer.call('take', sent, LIMIT_MS) };
  } finally {
    await producer.stop();
    await consumer.stop();
  }
}

/** @param {string} title @param {Results} results */
const toTable = (title, results) => ({
  title,
  columns: ['', 'p50', 'rounds', 'p99', 'events', 'late'],
  rows: Object.entries(results).map(([name, rounds]) => {
    const all = rounds.flatMap(({ times }) => times);
    const halves = medians(rounds);
    return [
      liveSystems[name]?.title ?? name,
      round(median(halves)),
      `${round(Math.min(...halves))}–${round(Math.max(...halves))}`,
      round(percentile(all, 0.99)),
      all.length,
      rounds.reduce((sum, { sent, times }) => sum + sent - times.length, 0),
    ];
  }),
});

/** @param {readonly Measured[]} [rounds] */
const medians = (rounds = []) => rounds.map(({ times }) => percentile(times, 0.5));

/** @param {readonly Measured[]} [ours] @param {readonly Measured[]} [others] */
const ratio = (ours, others) => {
  const beside = medians(others);
  return median(medians(ours).map((value, n) => value / (beside[n] ?? Number.NaN)));
};

/** @param {Results} results */
const ours = (results) => Object.keys(results).filter((name) => liveSystems[name]?.isOurs);

/** @param {Results} results @param {number} consumers */
function idleTargets(results, consumers) {
  const peers = Object.keys(results).filter((name) => name !== 'notify' && !liveSystems[name]?.isOurs);
  const best = peers.sort((a, b) => median(medians(results[a])) - median(medians(results[b])))[0] ?? '';
  return ours(results).map((name) => ({
    what: `idle p50, ${liveSystems[name]?.title}, consumers: ${consumers}, against ${liveSystems[best]?.title}`,
    atMost: 1,
    measured: ratio(results[name], results[best]),
  }));
}

/** @param {Results} results @param {number} consumers */
const steadyTargets = (results, consumers) =>
  ours(results).map((name) => ({
    what: `p50 at ${PER_SECOND} a second, ${liveSystems[name]?.title}, consumers: ${consumers}, against ${liveSystems['notify']?.title}`,
    atMost: STEADY_TARGET,
    measured: ratio(results[name], results['notify']),
  }));
