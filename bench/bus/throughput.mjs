// How many notifications a second arrive when they are sent as fast as one connection can, in transactions of 500: at
// 1, 10 and 1 000 loops or handlers of one channel, and at a bus of 1, 100 and 10 000 channels.
//
// PostgreSQL before 19 looks each notification up in a list of what the session listens to, so it matters where in the
// list a channel stands: they go to all channels in turn, to the last one, and to one that nobody listens to, for which
// the whole list is searched.
import { round } from '../support/report.mjs';
import { compare, median } from '../support/statistics.mjs';
import { besideBare } from './receivers.mjs';

const TARGET = 0.9;
const MANY = 10_000;

/** @typedef {import('../bus.mjs').Roles} Roles */
/** @typedef {import('../bus.mjs').Listening} Listening */
/** @typedef {import('../bus.mjs').Receiver} Receiver */
/** @typedef {{ title: string, handlers?: string, count: number, first: number, spread: number } & Listening} Case so many notifications, to `spread` channels from `first` on; `handlers`: what it is called with as many handlers */
/** @typedef {{ perSecond: number, cpuUs: number }} Result */

/** @param {Roles} roles @param {boolean} quick @returns {Promise<import('../support/report.mjs').Report>} */
export async function measureThroughput(roles, quick) {
  const rounds = quick ? 2 : 15;
  const cases = listCases(quick ? 0.5 : 1);
  await compareCase(roles, { ...cases.one, count: 20_000 }, 2); // warm
  const one = await compareCase(roles, cases.one, rounds);
  const bySubscriptions = [...one];
  for (const each of cases.subscriptions) bySubscriptions.push(...(await compareCase(roles, each, rounds)));
  const byChannels = one.slice(0, 1);
  for (const each of cases.channels) byChannels.push(...(await compareCase(roles, each, rounds)));
  const searched = [];
  for (const each of cases.unheard) searched.push(await search(roles, each, rounds));
  return {
    tables: [
      table('Notifications per second to the subscriptions and handlers of one channel', bySubscriptions),
      table('Notifications per second to a bus of many channels, one subscription to each', byChannels),
      searchTable(searched),
    ],
    targets: [
      ...byChannels.map(({ title, rate }) => target(`notifications/s, ${title}`, rate.ratio)),
      ...bySubscriptions.slice(1).map(({ title, what, rate }) =>
        // A bare handler is called once for what is delivered to all of them.
        target(`deliveries/s, ${title}`, rate.ratio * what.subscriptions),
      ),
    ],
  };
}

/** @param {number} part of the notifications */
function listCases(part) {
  /** @param {string} title @param {number} count @param {Partial<Case>} where @returns {Case} */
  const of = (title, count, where) => {
    const plain = { first: 0, spread: 1, channels: 1, subscriptions: 1 };
    return { title, count: count * part, ...plain, ...where };
  };
  return {
    one: of('1 channel, 1 subscription', 300_000, { handlers: '1 handler' }),
    subscriptions: [
      of('10 subscriptions', 100_000, { handlers: '10 handlers', subscriptions: 10 }),
      of('1 000 subscriptions', 5000, { handlers: '1 000 handlers', subscriptions: 1000 }),
    ],
    channels: [
      of('100 channels in turn', 300_000, { channels: 100, spread: 100 }),
      of('the last of 100', 300_000, { channels: 100, first: 99 }),
      of('10 000 channels in turn', 20_000, { channels: MANY, spread: MANY }),
      of('the last of 10 000', 20_000, { channels: MANY, first: MANY - 1 }),
    ],
    unheard: [1, 100, 1000, MANY].map((channels) =>
      of('', channels === MANY ? 20_000 : 100_000, { channels, first: channels }),
    ),
  };
}

/** @param {string} what @param {number} measured */
const target = (what, measured) => ({ what, atLeast: TARGET, measured });

/**
 * Beside the bare client: loops, and if they have a title handlers.
 *
 * @param {Roles} roles @param {Case} what @param {number} rounds
 */
async function compareCase(roles, what, rounds) {
  const { title, handlers } = what;
  const taken = await besideBare(rounds, handlers !== undefined, (how) =>
    measureOnce(roles, how, how === 'bare' ? { ...what, subscriptions: 1 } : what),
  );
  const beside = (/** @type {string} */ named, /** @type {Result[]} */ ours) => {
    const of = (/** @type {keyof Result} */ key) =>
      compare(
        ours.map((each) => each[key]),
        taken.bare.map((each) => each[key]),
      );
    return { title: named, what, rate: of('perSecond'), cpu: of('cpuUs') };
  };
  const inLoops = beside(title, taken.loops);
  return handlers === undefined ? [inLoops] : [inLoops, beside(handlers, taken.handlers)];
}

/** @param {Roles} roles @param {Receiver} how @param {Case} what @returns {Promise<Result>} */
async function measureOnce(roles, how, what) {
  const { notifier, [how]: receiver } = roles;
  const { count, channels, subscriptions } = what;
  await receiver.call('listen', how, { channels, subscriptions });
  await receiver.call('expect', count * subscriptions, true);
  const beganNs = await notifier.call('bulk', what);
  const { endedNs, cpuUs } = await receiver.call('take');
  await receiver.call('leave');
  return { perSecond: (count * 1e9) / (endedNs - beganNs), cpuUs: cpuUs / count };
}

/**
 * The microseconds in which a session that listens to so many channels finds that a notification is for none of them:
 * one to a channel of its own tells when it is through.
 *
 * @param {Roles} roles @param {Case} what @param {number} rounds
 */
async function search({ notifier, bare }, what, rounds) {
  const { channels, count } = what;
  const times = [];
  await bare.call('listen', 'bare', { channels, subscriptions: 1 });
  for (let round = 0; round < rounds; round += 1) {
    await bare.call('expect', 1, true);
    const beganNs = await notifier.call('bulk', what);
    await notifier.call('bulk', { count: 1, first: 0, spread: 1 });
    const { endedNs } = await bare.call('take');
    times.push((endedNs - beganNs) / 1e3 / count);
  }
  await bare.call('leave');
  return { channels, times };
}

/** @param {string} title @param {Awaited<ReturnType<typeof compareCase>>} results */
const table = (title, results) => ({
  title,
  columns: [
    '',
    'bare pg /s',
    'bus /s',
    'ratio',
    'rounds',
    'deliveries /s',
    'bare: µs of the receiver each',
    'bus: µs',
  ],
  rows: results.map(({ title, what, rate, cpu }) => [
    title,
    round(rate.raw),
    round(rate.ours),
    round(rate.ratio),
    `${round(rate.worst)}–${round(rate.best)}`,
    round(rate.ours * what.subscriptions),
    round(cpu.raw),
    round(cpu.ours),
  ]),
});

/** @param {Awaited<ReturnType<typeof search>>[]} results */
const searchTable = (results) => ({
  title: 'What a notification costs the server in each session that listens, and not to its channel',
  columns: ['channels listened to', 'µs', 'rounds'],
  rows: results.map(({ channels, times }) => [
    String(channels),
    round(median(times)),
    `${round(Math.min(...times))}–${round(Math.max(...times))}`,
  ]),
});
