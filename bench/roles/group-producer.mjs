// A process that sends events to one of the systems of bench/groups, one at a time or so many a second, each stamped with
// the time just before it is sent.
import { importSystem } from '../groups/system.mjs';
import { payload } from '../support/payload.mjs';
import { serve } from '../support/role.mjs';

/** @type {import('../groups/system.mjs').Producer} */
let producer;
let sent = 0;

/** @param {number} ms */
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const send = () => producer.send(payload(process.pid, (sent += 1)));

serve({
  /** @param {string} url @param {string} name @param {string} [where] */
  async open(url, name, where) {
    producer = await (await importSystem(name)).openProducer(url, where);
  },
  /** One after another with a pause after each, so that everything has come to rest. */
  async idle(/** @type {number} */ count, /** @type {number} */ gapMs) {
    for (let n = 0; n < count; n += 1) {
      await send();
      await pause(gapMs * (0.5 + Math.random()));
    }
    return count;
  },
  /** So many a second whether or not the ones before have ended; how many that were. */
  async steady(/** @type {number} */ perSecond, /** @type {number} */ ms) {
    const started = performance.now();
    const calls = [];
    while (performance.now() - started < ms) {
      const due = ((performance.now() - started) * perSecond) / 1000;
      while (calls.length < due) calls.push(send());
      await pause(1);
    }
    await Promise.all(calls);
    return calls.length;
  },
  async close() {
    await producer.close();
  },
});
