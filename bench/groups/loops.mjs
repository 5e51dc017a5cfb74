// Owns what consumers written by hand have in common: loops that take a batch, handle it and acknowledge it, and what
// wakes them when there was nothing to take.
import { Client, Pool } from 'pg';

/** The most consumers there are at once. */
export const MOST_CONSUMERS = 8;
/** As many as a Sluice has, so that all producers are as parallel. */
const PRODUCER_CONNECTIONS = 10;

/** @typedef {{ rings: () => number, next: () => Promise<void>, wakeAll: () => void }} Bell */

/** @param {string} url @param {number} [count] */
export async function openClients(url, count = MOST_CONSUMERS) {
  const clients = Array.from({ length: count }, () => new Client({ connectionString: url }));
  await Promise.all(clients.map((client) => client.connect()));
  return clients;
}

/** @param {readonly Client[]} clients */
export const endClients = (clients) => Promise.all(clients.map((client) => client.end()));

/**
 * What one statement sends, the event as JSON being its one parameter.
 *
 * @param {string} url @param {string} text @param {number} [connections]
 * @returns {Promise<import('./system.mjs').Producer>}
 */
export async function openSender(url, text, connections = PRODUCER_CONNECTIONS) {
  const pool = new Pool({ connectionString: url, max: connections });
  return {
    send: (data) => pool.query({ name: 'send', text, values: [JSON.stringify(data)] }),
    close: () => pool.end(),
  };
}

/** Wakes one of those who wait, at the latest after so long. @param {number} pollMs @returns {Bell & { ring: () => void }} */
export function createBell(pollMs) {
  /** @type {Set<() => void>} */
  const waiting = new Set();
  let rings = 0;
  return {
    rings: () => rings,
    next: () =>
      new Promise((resolve) => {
        const wake = () => {
          clearTimeout(timer);
          waiting.delete(wake);
          resolve();
        };
        const timer = setTimeout(wake, pollMs);
        waiting.add(wake);
      }),
    ring() {
      rings += 1;
      for (const wake of waiting) return wake();
    },
    wakeAll: () => waiting.forEach((wake) => wake()),
  };
}

/** Rings with each notification. @param {string} url @param {string} channel */
export async function openBell(url, channel) {
  const bell = createBell(1000);
  const [client] = await openClients(url, 1);
  client?.on('notification', bell.ring);
  await client?.query(`listen ${channel}`);
  return { ...bell, close: async () => client?.end() };
}

/**
 * A loop for each consumer.
 *
 * @template Consumer
 * @param {readonly Consumer[]} consumers
 * @param {Bell} bell
 * @param {(consumer: Consumer) => Promise<number>} turn takes a batch, handles and acknowledges it; how many there were
 * @returns {import('./system.mjs').Consuming}
 */
export function startLoops(consumers, bell, turn) {
  const stopping = new AbortController();
  /** @type {Promise<number>[]} */
  const turns = [];
  const loop = async (/** @type {Consumer} */ consumer, /** @type {number} */ index) => {
    while (!stopping.signal.aborted) {
      const before = bell.rings();
      const current = turn(consumer);
      turns[index] = current;
      const count = await current;
      if (count === 0 && !stopping.signal.aborted && bell.rings() === before) await bell.next();
    }
  };
  const loops = Promise.all(consumers.map(loop));
  return {
    settled: async () => {
      await Promise.all(turns);
    },
    stop: async () => {
      stopping.abort();
      bell.wakeAll();
      await loops;
    },
  };
}
