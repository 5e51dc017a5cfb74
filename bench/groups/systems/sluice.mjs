// Sluice's own consumer groups. Each load is a stream of its own, because events stay in the log when they were consumed:
// `load` says which, and its group starts at its first event.
import { connect } from 'sluice';
import { batches, settle } from '../waiting.mjs';

const GROUP = 'bench';

/**
 * @typedef {import('../system.mjs').Data} Data
 * @typedef {{ offset: bigint, data: Data }} Event
 * @typedef {{ concurrency?: number, maxBatch?: number, signal?: AbortSignal }} ConsumeOptions
 *
 * @typedef {object} Lease
 * @property {Event[]} events
 * @property {(options?: { failed?: { offset: bigint, error: unknown, retryAt?: Date }[] }) => Promise<void>} ack
 *
 * @typedef {object} Group what is used of it here
 * @property {(handler: (event: Event) => Promise<void>, options?: ConsumeOptions) => Promise<void>} consume
 * @property {(handler: (events: Event[]) => Promise<void>, options?: ConsumeOptions) => Promise<void>} consumeBatch
 * @property {(options?: { max?: number, leaseMs?: number }) => Promise<Lease | null>} claim
 * @property {() => Promise<{ lag: bigint | number, inFlight: bigint | number, retries: bigint | number }>} stats
 */

/** @param {import('sluice').Sluice} sluice @param {string} stream @returns {Group} */
export const groupOf = (sluice, stream) => /** @type {any} */ (sluice.stream(stream)).group(GROUP);

/** Whether this version has groups. @param {string} url */
export async function hasGroups(url) {
  const sluice = await connect({ connectionString: url, relay: false });
  try {
    return 'group' in sluice.stream('any');
  } finally {
    await sluice.close();
  }
}

export const install = async () => {};

/** @param {string} url @param {number} count */
export async function load(url, count) {
  const stream = `groups-${process.pid}-${Math.trunc(performance.now())}`;
  await append(url, stream, count);
  return stream;
}

/** @param {string} url @param {string} stream @param {number} count */
export async function append(url, stream, count) {
  const sluice = await connect({ connectionString: url, relay: false });
  try {
    await sluice.createStream(stream).catch(() => {}); // it may be there already
    for (const batch of batches(count)) {
      await sluice.stream(stream).appendMany(batch.map((data) => ({ data, type: 'order.paid' })));
    }
  } finally {
    await sluice.close();
  }
  await settle(url, 'sluice.events');
}

/** @param {string} url @param {string} [where] */
export async function left(url, where = '') {
  const sluice = await connect({ connectionString: url, relay: false });
  try {
    const { lag, inFlight, retries } = await groupOf(sluice, where).stats();
    return Number(lag) + Number(inFlight) + Number(retries);
  } finally {
    await sluice.close();
  }
}

/** @type {import('../system.mjs').System['openConsumers']} */
export async function openConsumers(url) {
  const sluice = await connect({ connectionString: url, relay: false });
  return {
    async start({ where = '', consumers, batch, asItComes }, handle) {
      const group = groupOf(sluice, where);
      const stopping = new AbortController();
      const { signal } = stopping;
      const one = async (/** @type {Event} */ { data }) => handle(data);
      const all = async (/** @type {Event[]} */ events) => {
        for (const { data } of events) handle(data);
      };
      const consuming = asItComes
        ? group.consume(one, { ...(consumers > 1 && { concurrency: consumers }), signal })
        : group.consumeBatch(all, { concurrency: consumers, maxBatch: batch, signal });
      const stop = async () => {
        stopping.abort();
        await consuming; // which ends when everything in hand is acknowledged
      };
      return { settled: stop, stop };
    },
    close: () => sluice.close(),
  };
}

/** @param {string} url @param {string} [where] */
export async function openProducer(url, where = '') {
  const sluice = await connect({ connectionString: url, relay: false });
  const stream = sluice.stream(where);
  return {
    send: (/** @type {object} */ data) => stream.append(data, { type: 'order.paid' }),
    close: () => sluice.close(),
  };
}
