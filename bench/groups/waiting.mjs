// Owns the backlog that is preloaded before a measurement: batches of events numbered from 0, and a server that has come
// to rest afterwards.
import { payload } from '../support/payload.mjs';
import { withClient } from '../support/server.mjs';

const BATCH = 5000;

/** The number of an event that was preloaded. @param {import('./system.mjs').Data} data */
export const numberOf = ({ id }) => Number(id.slice(id.indexOf('-') + 1));

/** @param {number} count */
export function* batches(count) {
  for (let first = 0; first < count; first += BATCH) {
    yield Array.from({ length: Math.min(BATCH, count - first) }, (_, n) => payload(0, first + n));
  }
}

/**
 * Empties what has to be empty and fills it with one statement per batch, whose parameter is a JSON array.
 *
 * @param {string} url @param {string} empty @param {string} insert @param {number} count
 */
export const fill = (url, empty, insert, count) =>
  withClient(url, async (client) => {
    await client.query(empty);
    for (const batch of batches(count)) {
      await client.query({ name: 'insert', text: insert, values: [JSON.stringify(batch)] });
    }
  });

/**
 * As autovacuum would leave the table a minute later; and the pages are on the disk, so that nobody's measurement pays
 * for writing what was preloaded.
 *
 * @param {string} url @param {string} table
 */
export const settle = (url, table) =>
  withClient(url, async (client) => {
    await client.query(`vacuum (analyze) ${table}`);
    const { rows } = await client.query(`select current_setting('is_superuser') = 'on' as allowed`);
    if (rows[0].allowed === true) await client.query('checkpoint');
  });

/** The number that a query returns. @param {string} url @param {string} query */
export const countOf = (url, query) =>
  withClient(url, async (client) => {
    const { rows } = await client.query({ text: query, rowMode: 'array' });
    return Number(rows[0]?.[0]);
  });

/** Asks every few milliseconds, for so long at most. @param {string} url @param {string} query @param {number} [patienceMs] */
export const untilZero = (url, query, patienceMs = Number.POSITIVE_INFINITY) =>
  withClient(url, async (client) => {
    const started = performance.now();
    while (performance.now() - started < patienceMs) {
      const { rows } = await client.query({ text: query, rowMode: 'array' });
      if (Number(rows[0]?.[0]) === 0) return;
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  });
