// A process that is many clients of one stream. Watchers stay, and look at every event. Others come back all at once with
// cursors of different ages; of those only one in a hundred looks at every event, the rest just far enough to know when
// they are live. Stalled ones do not read at all.
import { dial, followEvents, newestStamp, nowNs, requireAccepted } from '../support/event-stream.mjs';
import { serve } from '../support/role.mjs';
import { percentile } from '../support/statistics.mjs';

const DEADLINE_MS = 120_000;
const SAMPLED = 100;

/** @type {string} */
let path;
let port = 0;
/** @type {Set<import('node:net').Socket>} */
const sockets = new Set();
/** @type {import('node:net').Socket[]} */
let stalled = [];
/** What the first watcher has seen. @type {string[]} */
const cursors = [];
/** Milliseconds from the making of an event to its arrival, at those who stayed and at those who are live again. */
const latencies = { stayed: /** @type {number[]} */ ([]), returned: /** @type {number[]} */ ([]) };

/** @param {string} query @param {string} [lastEventId] */
function open(query, lastEventId) {
  const socket = dial(port, path + query, lastEventId);
  sockets.add(socket);
  socket.once('data', requireAccepted);
  socket.once('close', () => {
    if (sockets.delete(socket)) throw new Error('a stream was closed by its server');
  });
  return socket;
}

/** @param {import('node:net').Socket} socket */
function leave(socket) {
  sockets.delete(socket);
  socket.destroy();
}

/** @param {number} stampNs */
const ageMs = (stampNs) => (nowNs() - stampNs) / 1e6;

/**
 * One client that comes back; calls when it is live, which it is with the first event that was made after it was cut off.
 *
 * @param {{ cursor: string, replays: boolean, sampled: boolean, sinceNs: number, live: () => void }} client
 */
function comeBack({ cursor, replays, sampled, sinceNs, live }) {
  const socket = open('', cursor);
  let isLive = false;
  const arrived = (/** @type {number} */ stampNs) => {
    if (!isLive && stampNs >= sinceNs) {
      isLive = true;
      live();
    }
  };
  if (sampled) {
    const see = (/** @type {number} */ stampNs) => {
      if (isLive) latencies.returned.push(ageMs(stampNs));
      arrived(stampNs);
    };
    return followEvents(socket, { after: replays ? cursor : undefined, see });
  }
  socket.on('data', (chunk) => {
    if (!isLive) arrived(newestStamp(chunk) ?? 0);
  });
}

/** @param {string} what @param {() => boolean} condition */
async function until(what, condition) {
  const started = performance.now();
  while (!condition()) {
    if (performance.now() - started > DEADLINE_MS) throw new Error(`${what}: not after ${DEADLINE_MS} ms`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

serve({
  open(/** @type {number} */ toPort, /** @type {string} */ stream) {
    port = toPort;
    path = `/v1/events?stream=${encodeURIComponent(stream)}`;
  },
  /** Clients that stay; the first reads from the start on. Resolves when all have the head of their answers. */
  async watch(/** @type {number} */ count) {
    let answered = 0;
    for (let n = 0; n < count; n += 1) {
      const socket = open(n === 0 ? '&after=start' : '');
      socket.once('data', () => (answered += 1));
      const openedNs = nowNs();
      followEvents(socket, {
        see: (stampNs, cursor) => {
          if (n === 0) cursors.push(cursor);
          if (stampNs >= openedNs) latencies.stayed.push(ageMs(stampNs));
        },
      });
    }
    await until('all watchers are answered', () => answered === count);
  },
  /** The first watcher has so much to come back with. */
  known: (/** @type {number} */ events) =>
    until(`${events} events are known`, () => cursors.length >= events),
  /**
   * So many come back at once, with cursors spread evenly from the newest event to one that is so many older. Resolves
   * with the milliseconds until each was live.
   */
  async storm(/** @type {number} */ count, /** @type {number} */ oldest, /** @type {boolean} */ replays) {
    const known = cursors.slice(-oldest - 1);
    /** @type {number[]} */
    const times = [];
    const sinceNs = nowNs();
    const live = () => times.push(ageMs(sinceNs));
    for (let n = 0; n < count; n += 1) {
      const age = Math.floor((((n * 7919) % count) / count) * known.length); // of all ages in any moment
      const cursor = known[known.length - 1 - age] ?? '';
      comeBack({ cursor, replays, sampled: n % SAMPLED === 0, sinceNs, live });
    }
    await until('all are live again', () => times.length === count);
    return times;
  },
  /** Clients that ask for all there is and read none of it. */
  async stall(/** @type {number} */ count) {
    stalled = Array.from({ length: count }, () => open('&after=start').pause());
    await until('the stalled are connected', () => stalled.every(({ connecting }) => !connecting));
  },
  release() {
    for (const socket of stalled) leave(socket);
    stalled = [];
  },
  /** The latencies since they were taken last, once there are so many of those who stayed. */
  async take(/** @type {number} */ stayed = 0) {
    await until(`${stayed} deliveries`, () => latencies.stayed.length >= stayed);
    const taken = Object.entries(latencies).map(([who, times]) => [
      who,
      { count: times.length, p50: percentile(times, 0.5), p99: percentile(times, 0.99) },
    ]);
    latencies.stayed = [];
    latencies.returned = [];
    return Object.fromEntries(taken);
  },
  close() {
    for (const socket of sockets) leave(socket);
  },
});
