// Owns the list of what is compared, and the shape that each of them gives to the benchmark: a file in systems/.

/**
 * @typedef {object} How
 * @property {number} consumers that handle at once, all in one process
 * @property {number} batch how many they take at once
 * @property {boolean} [asItComes] event by event, with the system's defaults instead of `batch`
 * @property {boolean} [live] settings for events that arrive one by one
 * @property {string} [where] what `load` returned
 *
 * @typedef {{ id: string, at: string }} Data
 *
 * @typedef {object} Consuming
 * @property {() => Promise<void>} settled resolves when all that was handled by now is acknowledged
 * @property {() => Promise<void>} stop
 *
 * @typedef {object} Consumers
 * @property {(how: How, handle: (data: Data) => void) => Promise<Consuming>} start
 * @property {() => Promise<unknown>} close
 *
 * @typedef {object} Producer
 * @property {(data: object) => Promise<unknown>} send resolves when the event is committed
 * @property {() => Promise<unknown>} close
 *
 * @typedef {object} System
 * @property {(url: string) => Promise<unknown>} install
 * @property {(url: string, count: number) => Promise<string | undefined>} load makes so many events, and no others, wait; where, if it differs
 * @property {(url: string, where?: string) => Promise<number>} left how many are not acknowledged
 * @property {(url: string) => Promise<Consumers>} openConsumers
 * @property {(url: string, where?: string) => Promise<Producer>} openProducer
 */

/** @typedef {{ title: string, isLibrary?: boolean, isOurs?: boolean, hasDefaults?: boolean }} Entry */

/** @type {Readonly<Record<string, Entry>>} */
const others = {
  'pg-boss': { title: 'pg-boss', isLibrary: true, hasDefaults: true },
  'graphile-worker': { title: 'graphile-worker', isLibrary: true, hasDefaults: true },
  pgmq: { title: "pgmq's SQL" },
  'skip-locked': { title: 'bare SKIP LOCKED' },
  cursor: { title: 'bare range read' },
};

/** Those whose rates are compared. @type {Readonly<Record<string, Entry>>} */
export const systems = {
  sluice: { title: 'Sluice', isOurs: true, hasDefaults: true },
  'sluice-keyed': { title: 'Sluice, keyed', isOurs: true, hasDefaults: true },
  ...others,
};

/** Those whose latency is compared, and the least that there is. @type {Readonly<Record<string, Entry>>} */
export const liveSystems = {
  notify: { title: 'bare NOTIFY and commit' },
  sluice: { title: 'Sluice, appended', isOurs: true },
  ...others,
  'sluice-published': { title: 'Sluice, published', isOurs: true },
};

/** @param {string} name @returns {Promise<System>} */
export const importSystem = (name) => import(`./systems/${name}.mjs`);
