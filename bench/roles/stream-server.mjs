// A process that serves one stream of orders to event-stream connections: Sluice, which reads what another process
// appends; or a bare node:http server, which makes so many a second itself, keeps all of them as bytes, and writes those
// of each moment to everybody at once. Two kinds of it: `bare` answers a cursor with what was missed, `accept` with nothing.
import { createServer } from 'node:http';
import { offsetOf } from '../support/event-stream.mjs';
import { payload } from '../support/payload.mjs';
import { serve } from '../support/role.mjs';
import { bareStreams, COMMENT, listen, sluiceStreams } from '../support/streaming.mjs';

const LOG_BYTES = 256 * 2 ** 20; // far more than any round makes
const TICK_MS = 1;

/** @typedef {{ listener: import('node:http').RequestListener, close: () => Promise<void> | void }} Way */
/** @typedef {{ stream: string, past: number, perSecond: number }} Events so many there are already, and so many a second come */

/** @param {string} stream */
function memoryLog(stream) {
  const bytes = Buffer.allocUnsafe(LOG_BYTES);
  const ends = [0];
  return {
    add() {
      const offset = ends.length;
      const envelope = {
        stream,
        offset: String(offset),
        type: 'order.paid',
        key: null,
        data: payload(1, offset),
        at: new Date().toISOString(),
      };
      const frame = `id: 1-${offset.toString(36)}-0\ndata: ${JSON.stringify(envelope)}\n\n`;
      const start = ends.at(-1) ?? 0;
      if (start + frame.length > LOG_BYTES) throw new Error(`the log is full after ${offset} events`);
      ends.push(start + bytes.write(frame, start, 'latin1'));
    },
    last: () => ends.length - 1,
    /** @param {number} offset */
    after: (offset) => bytes.subarray(ends[offset], ends.at(-1)),
  };
}

/** @param {boolean} replays @param {Events} events @returns {Way} */
function bare(replays, { stream, past, perSecond }) {
  const log = memoryLog(stream);
  while (log.last() < past) log.add();
  const { listener, broadcast } = bareStreams(({ url = '', headers }) => {
    if (url.includes('after=start')) return log.after(0);
    const cursor = headers['last-event-id'];
    return replays && typeof cursor === 'string' ? log.after(offsetOf(cursor)) : COMMENT;
  });
  const started = performance.now();
  const timer = setInterval(() => {
    const before = log.last();
    const due = past + ((performance.now() - started) * perSecond) / 1000;
    while (log.last() < due) log.add();
    if (log.last() > before) broadcast(log.after(before));
  }, TICK_MS);
  return { listener, close: () => clearInterval(timer) };
}

/** @type {Record<string, (url: string, events: Events) => Promise<Way> | Way>} */
const ways = {
  accept: (_, events) => bare(false, events),
  bare: (_, events) => bare(true, events),
  sluice: (url, { stream }) => sluiceStreams(url, stream),
};

/** @type {Way} */
let way;
/** @type {Set<import('node:http').ServerResponse>} */
const responses = new Set();
const server = createServer((request, response) => {
  responses.add(response);
  response.once('close', () => responses.delete(response));
  way.listener(request, response);
});

serve({
  /** Resolves with its port. */
  async open(/** @type {string} */ kind, /** @type {string} */ url, /** @type {Events} */ events) {
    way = await /** @type {(url: string, events: Events) => Promise<Way>} */ (ways[kind])(url, events);
    return listen(server);
  },
  port: () => /** @type {import('node:net').AddressInfo} */ (server.address()).port,
  /** How many connections cannot take more. A socket that is written to directly says so itself. */
  full: () =>
    [...responses].filter((response) => response.writableNeedDrain || response.socket?.writableNeedDrain)
      .length,
  /** The processor time it has used so far, in milliseconds. */
  cpuMs() {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1000;
  },
  async close() {
    await way.close();
    server.closeAllConnections();
    server.close();
  },
});
