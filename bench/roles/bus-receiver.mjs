// A process that hears notifications: with a bare `pg` client and LISTEN, or over a bus, in loops or by handlers. It counts
// what arrives, fails on whatever is missing, repeated, out of order or late beyond bounds, and tells what it took.
import { subscribe } from 'node:diagnostics_channel';
import { Client } from 'pg';
import { createNotifyBus } from 'sluice';
import { channelNames } from '../support/channels.mjs';
import { serve } from '../support/role.mjs';

const BUFFER = 2 ** 20; // the most there is: here nothing may be pushed out
const DEADLINE_MS = 120_000;
/** Subscriptions that are timed: more would measure the clock. */
const TIMED = 10;
/** Channels in one statement, as the bus has it. */
const LISTEN_BATCH = 500;

/** Where one reader of one channel stands. @typedef {{ next: number, timed: boolean }} Place */

// What a handler throws ends this process, as what a loop throws does.
subscribe('sluice:bus.failed', (/** @type {any} */ { error }) => {
  throw error;
});

let url = '';
/** @type {() => Promise<void>} */
let disconnect = async () => {};
/** @type {Place[]} */
let places = [];
/** What is awaited: so many deliveries, numbered or timed. @type {{ left: number, numbered: boolean, end: (error?: Error) => void } | undefined} */
let awaited;
/** @type {number[]} */
let times = [];

/** @param {Place} place @param {string} payload */
function arrived(place, payload) {
  if (!awaited) throw new Error(`${payload} arrived, and nothing was awaited`);
  if (awaited.numbered) {
    if (Number(payload) !== place.next) awaited.end(new Error(`${payload} came as number ${place.next}`));
    place.next += 1;
  } else if (place.timed) {
    times.push(Number(process.hrtime.bigint() - BigInt(payload)) / 1e6);
  }
  awaited.left -= 1;
  if (awaited.left === 0) awaited.end();
}

/** Timed are the last and some before it, evenly. @param {number} count @returns {Place[]} */
const makePlaces = (count) =>
  Array.from({ length: count }, (_, n) => ({
    next: 0,
    timed: (count - 1 - n) % Math.ceil(count / TIMED) === 0,
  }));

/** @type {Record<string, (channels: string[], subscriptions: number) => Promise<void>>} */
const listens = {
  async bare(channels) {
    const client = new Client({ connectionString: url });
    await client.connect();
    disconnect = () => client.end();
    places = makePlaces(channels.length);
    const [only] = places;
    if (places.length === 1 && only) {
      client.on('notification', ({ payload = '' }) => arrived(only, payload));
    } else {
      const byChannel = new Map(channels.map((channel, n) => [channel, places[n]]));
      client.on('notification', ({ channel, payload = '' }) => {
        const place = byChannel.get(channel);
        if (place) arrived(place, payload);
      });
    }
    for (let n = 0; n < channels.length; n += LISTEN_BATCH) {
      const batch = channels.slice(n, n + LISTEN_BATCH);
      await client.query(batch.map((channel) => `listen "${channel}"`).join('; '));
    }
  },
  loops: (channels, subscriptions) =>
    overBus(channels, subscriptions, async (bus, channel, place) => {
      void follow(await bus.subscribe(channel, { buffer: BUFFER }), place);
    }),
  handlers: (channels, subscriptions) =>
    overBus(channels, subscriptions, (bus, channel, place) =>
      bus.listen(channel, (notice) => noticed(place, notice)),
    ),
};

/**
 * @param {string[]} channels
 * @param {number} readers of each
 * @param {(bus: import('sluice').NotifyBus, channel: string, place: Place) => Promise<unknown>} open
 */
async function overBus(channels, readers, open) {
  const bus = createNotifyBus({ connectionString: url });
  disconnect = () => bus.close();
  places = makePlaces(channels.length * readers);
  const opening = channels.flatMap((channel, n) =>
    places.slice(n * readers, (n + 1) * readers).map((place) => open(bus, channel, place)),
  );
  await Promise.all(opening);
}

/** @param {import('sluice').NotifySubscription} subscription @param {Place} place */
async function follow(subscription, place) {
  for await (const notice of subscription) noticed(place, notice);
}

/** @param {Place} place @param {import('sluice').Notification} notice */
function noticed(place, notice) {
  if (notice.kind === 'message') arrived(place, notice.payload);
  else awaited?.end(new Error(`a reader was told ${JSON.stringify(notice)}`));
}

/** Resolves with what it took when so many deliveries have come. @param {number} deliveries @param {boolean} numbered */
async function expect(deliveries, numbered) {
  for (const place of places) place.next = 0;
  times = [];
  const cpu = process.cpuUsage();
  await new Promise((resolve, reject) => {
    const late = setTimeout(
      () => awaited?.end(new Error(`${awaited.left} of ${deliveries} are missing after ${DEADLINE_MS} ms`)),
      DEADLINE_MS,
    );
    const end = (/** @type {Error | undefined} */ error) => {
      clearTimeout(late);
      awaited = undefined; // whatever comes now is too much
      if (error) reject(error);
      else resolve(undefined);
    };
    awaited = { left: deliveries, numbered, end };
  });
  const { user, system } = process.cpuUsage(cpu);
  return { endedNs: Number(process.hrtime.bigint()), cpuUs: user + system, times };
}

/** @type {ReturnType<typeof expect>} */
let expected;

async function leave() {
  await disconnect();
  disconnect = async () => {};
}

serve({
  open(/** @type {string} */ given) {
    url = given;
  },
  /** Resolves with how many milliseconds it took to be listening. */
  async listen(
    /** @type {string} */ how,
    /** @type {{ channels: number, subscriptions: number }} */ { channels, subscriptions },
  ) {
    const started = performance.now();
    await listens[how]?.(channelNames(channels), subscriptions);
    return performance.now() - started;
  },
  /** From now on so many deliveries are awaited; `take` tells of them. */
  expect(/** @type {number} */ deliveries, /** @type {boolean} */ numbered) {
    expected = expect(deliveries, numbered);
    expected.catch(() => {}); // take will tell
  },
  take: () => expected,
  leave,
  close: leave,
});
