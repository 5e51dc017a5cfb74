// A process that consumes with one of the systems of bench/groups: what was preloaded, as fast as it can, or what another
// process sends, timed from the moment it was stamped (process.hrtime is one clock for all processes of a machine).
import { importSystem } from '../groups/system.mjs';
import { numberOf } from '../groups/waiting.mjs';
import { serve } from '../support/role.mjs';

/**
 * @typedef {import('../groups/system.mjs').How} How
 * @typedef {import('../groups/system.mjs').Data} Data
 */

/** @type {import('../groups/system.mjs').Consumers} */
let consumers;
/** @type {import('../groups/system.mjs').Consuming | undefined} */
let live;
/** @type {number[]} */
let times = [];

/** @param {number} ms */
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * What was handled: how many, how many of them again, how many with the very first.
 *
 * @param {number} count @param {number} numbers as many as the events have at most @param {() => void} done
 */
function createTally(count, numbers, done) {
  const seen = new Uint8Array(numbers);
  const tally = { handled: 0, again: 0, first: 0, startedAt: 0 };
  const see = (/** @type {Data} */ data) => {
    if (tally.handled === 0) {
      tally.startedAt = performance.now();
      queueMicrotask(() => (tally.first = tally.handled));
    }
    const n = numberOf(data);
    tally.again += seen[n] ?? 0;
    seen[n] = 1;
    tally.handled += 1;
    if (tally.handled === count) done();
  };
  return { tally, see };
}

serve({
  /** @param {string} url @param {string} name */
  async open(url, name) {
    consumers = await (await importSystem(name)).openConsumers(url);
  },
  /**
   * Consumes the first so many of what waits, or as many as it can in that time; from the first handler's call until
   * all of them are acknowledged. The batch that comes with the first call was taken before: it does not count.
   */
  async drain(
    /** @type {How} */ how,
    /** @type {{ count: number, numbers?: number, limitMs: number }} */ { count, numbers = count, limitMs },
  ) {
    let timedOut = false;
    /** @type {() => void} */
    let done = () => {};
    const all = new Promise((resolve) => (done = () => resolve(undefined)));
    const { tally, see } = createTally(count, numbers, done);
    const consuming = await consumers.start(how, see);
    const timer = setTimeout(() => {
      timedOut = true;
      done();
    }, limitMs);
    await all;
    clearTimeout(timer);
    await consuming.settled();
    const ms = performance.now() - tally.startedAt;
    const { handled, again, first } = tally;
    await consuming.stop();
    const missing = count - (handled - again);
    if (!timedOut && missing > 0) throw new Error(`${missing} of ${count} events were not handled`);
    return { handled, again, timedOut, perSecond: ((handled - first) * 1000) / ms };
  },
  /** Handles what comes from now on. */
  async follow(/** @type {How} */ how) {
    times = [];
    live = await consumers.start(how, ({ at }) => {
      times.push(Number(process.hrtime.bigint() - BigInt(at)) / 1e6);
    });
  },
  /** The milliseconds of each when so many have come, or of those that came in that time. */
  async take(/** @type {number} */ count, /** @type {number} */ limitMs) {
    const started = performance.now();
    while (times.length < count && performance.now() - started < limitMs) await pause(5);
    const taken = times;
    times = [];
    return taken;
  },
  async leave() {
    await live?.stop();
    live = undefined;
  },
  async close() {
    await live?.stop();
    await consumers.close();
  },
});
