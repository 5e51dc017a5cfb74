// A process that serves events to many connections in one of several ways, and sends rounds of them: the next round once
// every connection has had the last one, as its clients confirm over a socket of their own.
import { subscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createServer as createTcpServer } from 'node:net';
import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { createChannel, createSession } from 'better-sse';
import { nowNs } from '../support/event-stream.mjs';
import { serve } from '../support/role.mjs';
import { bareStreams, listen, sluiceStreams } from '../support/streaming.mjs';

setFlagsFromString('--expose-gc');
const gc = /** @type {() => void} */ (runInNewContext('gc'));

const PADDING = 'x'.repeat(150);
const payload = () => ({ sent: Math.round(nowNs() / 1000), PADDING });
/** Of each round, the milliseconds until what was sent began to go out: bare servers make it themselves, at once. @type {number[]} */
let made = [];
let began = 0;

/** @typedef {{ listener: import('node:http').RequestListener, send: (count: number) => unknown, close?: () => Promise<void> }} Way */

/** @type {Record<string, (url: string) => Promise<Way> | Way>} */
const ways = {
  /** One shared buffer per event, one write per event and socket. */
  bare: () => {
    const { listener, broadcast } = bareStreams();
    return {
      listener,
      send: (count) => {
        for (let n = 0; n < count; n += 1) {
          broadcast(Buffer.from(`id: ${n}\ndata: ${JSON.stringify(payload())}\n\n`));
        }
      },
    };
  },
  'better-sse': () => {
    const channel = createChannel();
    return {
      listener: (request, response) => {
        void createSession(request, response).then((session) => channel.register(session));
      },
      send: (count) => {
        for (let n = 0; n < count; n += 1) channel.broadcast(payload(), 'message');
      },
    };
  },
  sluice: async (url) => {
    const { stream, listener, close } = await sluiceStreams(url, 'fanout');
    subscribe('sluice:tail.woken', () => made.push(performance.now() - began)); // it has been committed
    return {
      listener,
      send: (count) =>
        count === 1
          ? stream.append(payload())
          : stream.appendMany(Array.from({ length: count }, () => ({ data: payload() }))),
      close,
    };
  },
};

/** @type {Way} */
let way;
/** @type {import('node:http').Server} */
let server;
/** @type {number[]} */
let ports;
/** @type {import('node:net').Socket} */
let confirming;
const control = createTcpServer((socket) => {
  confirming = socket.setNoDelay(true);
});

serve({
  open: async (/** @type {string} */ kind, /** @type {string} */ url) => {
    way = await /** @type {(url: string) => Promise<Way>} */ (ways[kind])(url);
    server = createServer(way.listener);
    ports = [await listen(server), await listen(control)];
  },
  ports: () => ports,
  /**
   * In bytes: all that is resident, and of that what is in use. The rest is the free part of the heap, whose young
   * generation grows to 32 MB in any process that has been busy.
   */
  memory: () => {
    gc();
    gc();
    const { rss } = process.memoryUsage();
    const { total_physical_size: heap, used_heap_size: used } = getHeapStatistics();
    return { resident: rss, inUse: rss - (heap - used) };
  },
  run: async (/** @type {number} */ rounds, /** @type {number} */ size) => {
    made = [];
    const started = performance.now();
    for (let round = 0; round < rounds; round += 1) {
      const confirmed = once(confirming, 'data');
      began = performance.now();
      await way.send(size);
      await confirmed;
    }
    return { ms: performance.now() - started, made };
  },
  close: async () => {
    await way.close?.();
    server.closeAllConnections();
    server.close();
    control.close();
    confirming?.destroy();
  },
});
