// A process that works on one candidate for the outbox: either publishes from many connections or moves what others
// published.
import { Client } from 'pg';
import { payload } from '../support/payload.mjs';
import { serve } from '../support/role.mjs';

/** Between two looks at whether the current slot has grown, in milliseconds. */
const ROTATE_PAUSE_MS = 100;
const PASS_PAUSE_MS = 5;

/** @type {Client[]} */
let clients = [];
let published = 0;
/** @type {AbortController} */
let moving;
/** @type {Promise<void>} */
let mover;

serve({
  /** @param {string} url @param {number} connections */
  async open(url, connections) {
    clients = Array.from({ length: connections }, () => new Client({ connectionString: url }));
    await Promise.all(clients.map((client) => client.connect()));
  },
  /** Events published per second, each in a transaction of its own. */
  async publish(/** @type {string} */ text, /** @type {number} */ ms) {
    const started = performance.now();
    const before = published;
    await Promise.all(
      clients.map(async (client) => {
        do {
          published += 1;
          const values = ['hot', JSON.stringify(payload(1, published)), 'order.paid'];
          await client.query({ name: text, text, values });
        } while (performance.now() - started < ms);
      }),
    );
    return ((published - before) * 1000) / (performance.now() - started);
  },
  startMoving(/** @type {string} */ pass, /** @type {string | undefined} */ rotate) {
    moving = new AbortController();
    mover = (async () => {
      let rotatedAt = performance.now();
      while (!moving.signal.aborted) {
        await clients[0]?.query({ name: pass, text: pass });
        if (rotate !== undefined && performance.now() - rotatedAt > ROTATE_PAUSE_MS) {
          await clients[0]?.query({ name: rotate, text: rotate });
          rotatedAt = performance.now();
        }
        await new Promise((resolve) => setTimeout(resolve, PASS_PAUSE_MS));
      }
    })();
  },
  async stopMoving() {
    moving.abort();
    await mover;
  },
  close: () => Promise.all(clients.map((client) => client.end())),
});
