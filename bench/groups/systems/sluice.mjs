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

/** @typedef {{ keyed?: { partitions: number } }} GroupOptions @typedef {(data: Data) => string} KeyOf */

/** @param {import('sluice').Sluice} sluice @param {string} stream @param {GroupOptions} [options] @returns {Group} */
export const groupOf = (sluice, stream, options = {}) =>
  /** @type {any} */ (sluice.stream(stream)).group(GROUP, options);

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

/** @param {string} url @param {number} count @param {KeyOf} [keyOf] */
export async function load(url, count, keyOf) {
  const stream = `groups-${process.pid}-${Math.trunc(performance.now())}`;
  await append(url, stream, count, keyOf);
  return stream;
}

/** @param {string} url @param {string} stream @param {number} count @param {KeyOf} [keyOf] */
export async function append(url, stream, count, keyOf) {
  const sluice = await connect({ connectionString: url, relay: false });
  try {
    await sluice.createStream(stream).catch(() => {}); // it may be there already
    for (const batch of batches(count)) {
      const events = batch.map((data) => ({ data, type: 'order.paid', ...(keyOf && { key: keyOf(data) }) }));
      await sluice.stream(stream).appendMany(events);
    }
  } finally {
    await sluice.close();
  }
  await settle(url, 'sluice.events');
}

/** @param {string} url @param {string} [where] @param {GroupOptions} [options] */
export async function left(url, where = '', options = {}) {
  const sluice = await connect({ connectionString: url, relay: false });
  try {
    const { lag, inFlight, retries } = await groupOf(sluice, where, options).stats();
    return Number(lag) + Number(inFlight) + Number(retries);
  } finally {
    await sluice.close();
  }
}

/** @param {string} url @param {GroupOptions} [options] @returns {Promise<import('../system.mjs').Consumers>} */
export async function openConsumers(url, options = {}) {
  const sluice = await connect({ connectionString: url, relay: false });
  return {
    async start({ where = '', consumers, batch, asItComes }, handle) {
      const group = groupOf(sluice, where, options);
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
