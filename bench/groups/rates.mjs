// Consumed and acknowledged per second: 1 and 8 consumers of one process, 1 to 1 000 events at a time, and event by event
// with each system's defaults. Every measurement has a backlog of its own, preloaded, and ends when it is acknowledged.
import { round } from '../support/report.mjs';
import { startRole } from '../support/role.mjs';
import { inTurn } from '../support/rounds.mjs';
import { compare, median } from '../support/statistics.mjs';
import { importSystem, systems } from './system.mjs';

/** @typedef {import('./system.mjs').How} How */
/** @typedef {{ title: string, count: number, how: Omit<How, 'consumers'>, target?: number }} Case */
/** @typedef {Record<string, number[]>} Rates of each system, round by round */
/** @typedef {{ what: Case, consumers: number, rates: Rates }} Result */

/** @type {readonly Case[]} */
const CASES = [
  { title: 'by 1', count: 4000, how: { batch: 1 } },
  { title: 'by 10', count: 20_000, how: { batch: 10 } },
  { title: 'by 100', count: 100_000, how: { batch: 100 }, target: 3 },
  { title: 'by 1 000', count: 160_000, how: { batch: 1000 }, target: 5 },
  { title: 'as it comes', count: 4000, how: { batch: 1, asItComes: true }, target: 5 },
];
const CONSUMERS = [1, 8];
/** For who waits between two events. */
const LIMIT_MS = 6000;
const MOST_MS = 60_000;

/** @param {string} url @param {readonly string[]} names @param {boolean} quick @returns {Promise<import('../support/report.mjs').Report>} */
export async function measureRates(url, names, quick) {
  /** @type {Result[]} */
  const results = [];
  const notes = [];
  /** @type {Record<string, import('../support/role.mjs').Role>} */
  const roles = {};
  const repeated = { events: 0 };
  /** @type {Set<string>} */
  const limited = new Set();
  try {
    for (const name of names) roles[name] = await startRole('group-consumers', url, name);
    const drain =
      (/** @type {string} */ name) => async (/** @type {How} */ how, /** @type {number} */ count) => {
        const { load, left } = await importSystem(name);
        const where = await load(url, count);
        const limits = { count, limitMs: how.asItComes ? (quick ? LIMIT_MS / 2 : LIMIT_MS) : MOST_MS };
        const drained = await roles[name]?.call('drain', { ...how, ...(where && { where }) }, limits);
        if (drained.timedOut) limited.add(systems[name]?.title ?? name);
        else checkNoneIsLeft(name, await left(url, where));
        repeated.events += drained.again;
        return drained.perSecond;
      };
    for (const name of names) await drain(name)({ consumers: 8, batch: 10 }, 2000); // warm
    for (const consumers of CONSUMERS) {
      for (const what of CASES) {
        const rates = await measureCase(names, { what, consumers }, { drain, quick });
        results.push({ what, consumers, rates });
      }
    }
  } finally {
    for (const role of Object.values(roles)) await role.stop();
  }
  notes.push(`Each event of a backlog was handled and acknowledged; handled again: ${repeated.events}.`);
  if (limited.size > 0) notes.push(`Not within the time there was: ${[...limited].join(', ')}.`);
  return {
    tables: [...CONSUMERS.map((consumers) => toTable(results, consumers)), ratioTable(results)],
    targets: results.flatMap(toTarget),
    notes,
  };
}

/**
 * @param {readonly string[]} names
 * @param {{ what: Case, consumers: number }} measured
 * @param {{ drain: (name: string) => (how: How, count: number) => Promise<number>, quick: boolean }} with_
 * @returns {Promise<Rates>}
 */
function measureCase(names, { what, consumers }, { drain, quick }) {
  const taking = names.filter((name) => !what.how.asItComes || systems[name]?.hasDefaults);
  const count = quick ? Math.max(what.count / 10, what.how.batch * 10) : what.count;
  const measurements = taking.map((name) => [name, () => drain(name)({ ...what.how, consumers }, count)]);
  return inTurn(quick ? 2 : 5, Object.fromEntries(measurements));
}

/** @param {readonly Result[]} results @param {number} consumers */
function toTable(results, consumers) {
  const of = results.filter((result) => result.consumers === consumers);
  const names = Object.keys(of[0]?.rates ?? {});
  return {
    title: `Events per second, ${consumers} consumer${consumers === 1 ? '' : 's'}`,
    columns: ['', ...of.map(({ what }) => what.title)],
    rows: names.map((name) => [
      systems[name]?.title ?? name,
      ...of.map(({ rates }) => (rates[name] ? round(median(rates[name])) : null)),
    ]),
  };
}

/** @param {string} name @param {number} count */
function checkNoneIsLeft(name, count) {
  if (count > 0) throw new Error(`${name}: ${count} events were handled, but not acknowledged`);
}

/** The best of those that were measured. @param {Rates} rates */
const bestLibrary = (rates) =>
  Object.keys(rates)
    .filter((name) => systems[name]?.isLibrary)
    .sort((a, b) => median(rates[b] ?? []) - median(rates[a] ?? []))[0] ?? '';

/** @param {readonly Result[]} results */
const ratioTable = (results) => ({
  title: 'How many times the best library; medians of paired rounds, and their range',
  columns: ['', 'best library', ...Object.values(systems).map(({ title }) => title)],
  rows: results.map(({ what, consumers, rates }) => {
    const best = bestLibrary(rates);
    return [
      `${what.title}, ${consumers}`,
      systems[best]?.title ?? '',
      ...Object.keys(systems).map((name) => {
        if (!rates[name] || name === best) return null;
        const { ratio, worst, best: most } = compare(rates[name], rates[best] ?? []);
        return `${round(ratio)} (${round(worst)}–${round(most)})`;
      }),
    ];
  }),
});

/** @param {Result} result @returns {import('../support/report.mjs').Target[]} */
function toTarget({ what, consumers, rates }) {
  const best = bestLibrary(rates);
  if (what.target === undefined || !rates['sluice'] || !rates[best]) return [];
  return [
    {
      what: `events/s ${what.title}, consumers: ${consumers}, against ${systems[best]?.title}`,
      atLeast: what.target,
      measured: compare(rates['sluice'], rates[best]).ratio,
    },
  ];
}
