// A process that writes events outside of transactions: by append, by plain inserts on many connections, or by raw
// inserts of many rows on one.
import { getRandomValues } from 'node:crypto';
import { subscribe } from 'node:diagnostics_channel';
import { Client } from 'pg';
import { connect } from 'sluice';
import { payload } from '../support/payload.mjs';
import { percentile } from '../support/statistics.mjs';
import { serve } from '../support/role.mjs';
import { insertPlainEvent, insertRawEvents, plainEvent } from '../support/tables.mjs';

const RECORD_SEPARATOR = '\u001e';

/** @type {import('sluice').Sluice} */
let sluice;
/** @type {Client[]} */
let clients = [];
let written = 0;
const calls = { calls: 0, events: 0 };

subscribe('sluice:append.committed', (message) => {
  calls.calls += 1;
  calls.events += /** @type {{ events: number }} */ (message).events;
});

/**
 * So many callers, each of which does it again and again for so long; what was done, per second.
 *
 * @param {number} callers
 * @param {number} ms
 * @param {(caller: number) => Promise<number>} work returns how many events it wrote
 */
async function rate(callers, ms, work) {
  const started = performance.now();
  let events = 0;
  await Promise.all(
    Array.from({ length: callers }, async (_, caller) => {
      do {
        const count = await work(caller);
        events += count;
      } while (performance.now() - started < ms);
    }),
  );
  return (events * 1000) / (performance.now() - started);
}

/** @param {readonly string[]} texts */
async function insertRaw(texts) {
  const tags = `{${getRandomValues(new Int32Array(texts.length)).join(',')}}`;
  const values = [written, texts.join(RECORD_SEPARATOR), tags, texts.map(() => 'order.paid'), null, null];
  written += texts.length;
  await clients[0]?.query({ name: 'raw', text: insertRawEvents, values });
}

/** @type {{ text: string, settle: (inserted: Promise<void>) => void }[]} */
let waiting = [];
let isInserting = false;

/** @param {string} text @returns {Promise<void>} */
const insertShared = (text) =>
  new Promise((settle) => {
    waiting.push({ text, settle });
    insertNext();
  });

/** Whoever a statement woke has asked again when the next one goes. */
function insertNext() {
  if (isInserting || waiting.length === 0) return;
  isInserting = true;
  setImmediate(() => void insertWaiting());
}

async function insertWaiting() {
  const batch = waiting;
  waiting = [];
  const inserted = insertRaw(batch.map(({ text }) => text));
  for (const { settle } of batch) settle(inserted);
  await inserted.catch(() => {}); // told to those who wait
  isInserting = false;
  insertNext();
}

serve({
  /** @param {string} url @param {number} connections */
  async open(url, connections) {
    sluice = await connect({ connectionString: url, relay: false });
    clients = Array.from({ length: connections }, () => new Client({ connectionString: url }));
    await Promise.all(clients.map((client) => client.connect()));
  },
  /** Callers of append, each of which waits for its offset before it appends again, spread over some streams. */
  async append(/** @type {number} */ callers, /** @type {number} */ streams, /** @type {number} */ ms) {
    const handles = Array.from({ length: streams }, (_, n) => sluice.stream(`orders/${n}`));
    const before = { ...calls };
    const perSecond = await rate(callers, ms, async (caller) => {
      written += 1;
      await handles[caller % streams]?.append(payload(caller, written), { type: 'order.paid' });
      return 1;
    });
    return { perSecond, perCall: (calls.events - before.events) / (calls.calls - before.calls) };
  },
  /** The same on one stream, with how long single appends took. */
  async appendTimed(/** @type {number} */ callers, /** @type {number} */ ms) {
    const stream = sluice.stream('orders/0');
    /** @type {number[]} */
    const times = [];
    const perSecond = await rate(callers, ms, async (caller) => {
      written += 1;
      const started = performance.now();
      await stream.append(payload(caller, written), { type: 'order.paid' });
      times.push(performance.now() - started);
      return 1;
    });
    return { perSecond, longestMs: percentile(times, 1), p99Ms: percentile(times, 0.99) };
  },
  /** As many connections, each of which inserts one row at a time with a prepared statement. */
  plain: async (/** @type {number} */ connections, /** @type {number} */ ms) =>
    rate(connections, ms, async (caller) => {
      written += 1;
      await clients[caller]?.query({
        name: 'plain',
        text: insertPlainEvent,
        values: plainEvent(payload(caller, written)),
      });
      return 1;
    }),
  /** One connection, one prepared statement after another with so many rows each. */
  raw: async (/** @type {number} */ rows, /** @type {number} */ ms) =>
    rate(1, ms, async () => {
      await insertRaw(Array.from({ length: rows }, (_, n) => JSON.stringify(payload(0, written + n))));
      return rows;
    }),
  /** Callers that share such statements, one after another: the least that it takes to write for all of them at once. */
  shared: async (/** @type {number} */ callers, /** @type {number} */ ms) =>
    rate(callers, ms, async (caller) => {
      await insertShared(JSON.stringify(payload(caller, written + waiting.length)));
      return 1;
    }),
  async close() {
    await Promise.all(clients.map((client) => client.end()));
    await sluice.close();
  },
});
