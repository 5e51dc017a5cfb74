// From just before a notification is sent to the reader in another process, one at a time and at 1 000 a second: with 1,
// 10 and 1 000 loops or handlers of its channel, and to the last channel of 100 and 10 000.
import { round } from '../support/report.mjs';
import { median, percentile } from '../support/statistics.mjs';
import { besideBare } from './receivers.mjs';

const TARGET = 1.2;
const PER_SECOND = 1000;
/** Longer than anything is busy with one. */
const GAP_MS = 20;

/** @typedef {import('../bus.mjs').Roles} Roles */
/** @typedef {import('../bus.mjs').Receiver} Receiver */
/** @typedef {{ title: string, handlers?: string } & import('../bus.mjs').Listening} Case `handlers`: what it is called with as many handlers */
/** @typedef {(how: Receiver, what: Case) => Promise<number[]>} Measure */

/** @type {readonly Case[]} */
const CASES = [
  { title: '1 channel, 1 subscription', handlers: '1 handler', channels: 1, subscriptions: 1 },
  { title: '10 subscriptions', handlers: '10 handlers', channels: 1, subscriptions: 10 },
  { title: '1 000 subscriptions', handlers: '1 000 handlers', channels: 1, subscriptions: 1000 },
  { title: 'the last of 100 channels', channels: 100, subscriptions: 1 },
  { title: 'the last of 10 000 channels', channels: 10_000, subscriptions: 1 },
];

/** @param {Roles} roles @param {boolean} quick @returns {Promise<import('../support/report.mjs').Report>} */
export async function measureLatency(roles, quick) {
  const idle = measureWith(roles, 'idle', quick ? 30 : 40, GAP_MS);
  const steady = measureWith(roles, 'steady', quick ? 500 : 800, PER_SECOND);
  const rounds = quick ? 2 : 11;
  const oneAtATime = await compareCases(idle, rounds);
  const manyASecond = await compareCases(steady, rounds);
  return {
    tables: [
      toTable('Latency one at a time, milliseconds', oneAtATime),
      toTable(`Latency at ${PER_SECOND} a second, milliseconds`, manyASecond),
    ],
    targets: [
      ...oneAtATime.map(({ title, ratio }) => target(`p50 one at a time, ${title}`, ratio)),
      ...manyASecond.map(({ title, ratio }) => target(`p50 at ${PER_SECOND} a second, ${title}`, ratio)),
    ],
  };
}

/** @param {string} what @param {number} measured */
const target = (what, measured) => ({ what, atMost: TARGET, measured });

/**
 * The milliseconds of each delivery to the readers that are timed.
 *
 * @param {Roles} roles @param {'idle' | 'steady'} method @param {number} count @param {number} pace
 * @returns {Measure}
 */
const measureWith =
  (roles, method, count, pace) =>
  async (how, { channels, subscriptions }) => {
    const { notifier, [how]: receiver } = roles;
    const readers = how === 'bare' ? 1 : subscriptions;
    await receiver.call('listen', how, { channels, subscriptions });
    await receiver.call('expect', count * readers, false);
    await notifier.call(method, channels - 1, count, pace);
    const { times } = await receiver.call('take');
    await receiver.call('leave');
    return times;
  };

/** @param {Measure} measure @param {number} rounds */
async function compareCases(measure, rounds) {
  const results = [];
  for (const what of CASES) {
    const { title, handlers } = what;
    const taken = await besideBare(rounds, handlers !== undefined, (how) => measure(how, what));
    results.push(beside(title, taken.loops, taken.bare));
    if (handlers !== undefined) results.push(beside(handlers, taken.handlers, taken.bare));
  }
  return results;
}

/** @param {string} title @param {number[][]} bus of each round @param {number[][]} bare */
function beside(title, bus, bare) {
  const ratios = bus.map((times, n) => percentile(times, 0.5) / percentile(bare[n] ?? [], 0.5));
  return { title, bare: bare.flat(), bus: bus.flat(), ratio: median(ratios), ratios };
}

/** @param {string} title @param {Awaited<ReturnType<typeof compareCases>>} results */
const toTable = (title, results) => ({
  title,
  columns: ['', 'bare pg p50', 'p99', 'bus p50', 'p99', 'ratio of p50', 'rounds'],
  rows: results.map(({ title, bare, bus, ratio, ratios }) => [
    title,
    round(percentile(bare, 0.5)),
    round(percentile(bare, 0.99)),
    round(percentile(bus, 0.5)),
    round(percentile(bus, 0.99)),
    round(ratio),
    `${round(Math.min(...ratios))}–${round(Math.max(...ratios))}`,
  ]),
});
