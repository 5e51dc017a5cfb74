// Sluice's keyed groups: a thousand keys, dealt out to eight partitions.
import { numberOf } from '../waiting.mjs';
import * as plain from './sluice.mjs';

export { install, openProducer } from './sluice.mjs';

const OPTIONS = { keyed: { partitions: 8 } };

/** @param {import('../system.mjs').Data} data */
const keyOf = (data) => `customer ${numberOf(data) % 1000}`;

/** @param {string} url @param {number} count */
export const load = (url, count) => plain.load(url, count, keyOf);

/** @param {string} url @param {string} [where] */
export const left = (url, where) => plain.left(url, where, OPTIONS);

/** @param {string} url */
export const openConsumers = (url) => plain.openConsumers(url, OPTIONS);
