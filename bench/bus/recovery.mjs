// How soon a bus listens again: from the fault to the `gap` that its subscription is told, and what 10 000 channels add
// to it. A session that was killed within its first second is followed by the next one a second later, on purpose.
import { setTimeout as delay } from 'node:timers/promises';
import { createNotifyBus } from 'sluice';
import { channelNames } from '../support/channels.mjs';
import { openProxy } from '../support/proxy.mjs';
import { round } from '../support/report.mjs';
import { inTurn } from '../support/rounds.mjs';
import { withClient } from '../support/server.mjs';
import { median } from '../support/statistics.mjs';

const HEARTBEAT_MS = 1000; // the default
/** A session counts as stable after a second. */
const STABLE_MS = 1100;
const OUTAGE_MS = 5000;
const MANY = 10_000;
const LISTEN_BATCH = 500;

/** @typedef {AsyncIterator<import('sluice').Notification>} Notices */

/** @param {string} url @param {boolean} quick @returns {Promise<import('../support/report.mjs').Report>} */
export async function measureRecovery(url, quick) {
  return withClient(url, async (admin) => {
    const faults = await measureFaults(url, admin, quick);
    const many = await measureMany(url, admin, quick ? 2 : 5);
    return {
      tables: [
        toTable('Listening again, milliseconds from the fault', faults),
        toTable(`Listening to ${MANY} channels, milliseconds`, many),
      ],
      notes: [
        'A bus told its subscription of each new session before anything else, and heard what was sent after it.',
      ],
    };
  });
}

/** @param {string} url @param {import('pg').Client} admin @param {boolean} quick */
async function measureFaults(url, admin, quick) {
  const proxy = await openProxy(url);
  const bus = createNotifyBus({ connectionString: proxy.url });
  try {
    const notices = (await bus.subscribe('orders'))[Symbol.asyncIterator]();
    const timed = (/** @type {() => Promise<number>} */ fault) => async () => {
      await delay(STABLE_MS + Math.random() * HEARTBEAT_MS); // at any point between two heartbeats
      return fault();
    };
    const afterwards = async (/** @type {() => unknown} */ fault) => {
      const started = performance.now();
      await fault();
      const ms = await untilGap(notices, started);
      await checkHeard(admin, notices);
      return ms;
    };
    const kill = () => killListener(admin);
    const faults = await inTurn(quick ? 2 : 10, {
      'backend killed': timed(() => afterwards(kill)),
      'killed again within a second': timed(async () => {
        await afterwards(kill);
        return afterwards(kill);
      }),
      'connections go silent, new ones work': timed(() => afterwards(proxy.silence)),
    });
    const outages = await inTurn(quick ? 1 : 5, {
      [`nothing passes for ${OUTAGE_MS / 1000} s; from its end`]: timed(async () => {
        proxy.outage();
        await delay(OUTAGE_MS);
        return afterwards(proxy.end);
      }),
    });
    return { ...faults, ...outages };
  } finally {
    await bus.close();
    proxy.close();
  }
}

/** @param {string} url @param {import('pg').Client} admin @param {number} rounds */
async function measureMany(url, admin, rounds) {
  const channels = channelNames(MANY);
  /** @type {number[]} */
  const restored = [];
  const many = await inTurn(rounds, {
    'bare pg, a statement each': () => listenBare(url, channels, 1),
    [`bare pg, ${LISTEN_BATCH} in a statement`]: () => listenBare(url, channels, LISTEN_BATCH),
    'bus: a subscription to each': async () => {
      const bus = createNotifyBus({ connectionString: url });
      try {
        const started = performance.now();
        const subscriptions = await Promise.all(channels.map((channel) => bus.subscribe(channel)));
        const ms = performance.now() - started;
        const notices = subscriptions.at(-1)?.[Symbol.asyncIterator]();
        await delay(STABLE_MS);
        const killed = performance.now();
        await killListener(admin);
        if (notices) restored.push(await untilGap(notices, killed));
        return ms;
      } finally {
        await bus.close();
      }
    },
  });
  return { ...many, 'bus: again after its backend was killed': restored };
}

/** @param {string} url @param {string[]} channels @param {number} batch */
const listenBare = (url, channels, batch) => {
  const started = performance.now();
  return withClient(url, async (client) => {
    for (let n = 0; n < channels.length; n += batch) {
      const some = channels.slice(n, n + batch);
      await client.query(some.map((channel) => `listen "${channel}"`).join('; '));
    }
    return performance.now() - started;
  });
};

/** @param {import('pg').Client} admin */
async function killListener(admin) {
  const { rowCount } = await admin.query(
    `select pg_terminate_backend(pid) from pg_stat_activity
     where application_name = 'sluice listener' and datname = current_database() and state = 'idle'
     order by backend_start desc limit 1`,
  );
  if (rowCount !== 1) throw new Error('there is no listener to kill');
}

/** Milliseconds since then until it is told. @param {Notices} notices @param {number} since */
async function untilGap(notices, since) {
  const { value } = await notices.next();
  if (value?.kind !== 'gap') throw new Error(`a gap should have come, not ${JSON.stringify(value)}`);
  return performance.now() - since;
}

/** A session that hears nothing has not recovered. @param {import('pg').Client} admin @param {Notices} notices */
async function checkHeard(admin, notices) {
  const payload = String(Math.random());
  await admin.query(`select pg_notify('orders', $1)`, [payload]);
  const { value } = await notices.next();
  if (value?.kind !== 'message' || value.payload !== payload) {
    throw new Error(`after a gap ${JSON.stringify(value)} came`);
  }
}

/** @param {string} title @param {Record<string, number[]>} results */
const toTable = (title, results) => ({
  title,
  columns: ['', 'median', 'shortest', 'longest', 'times'],
  rows: Object.entries(results).map(([what, times]) => [
    what,
    round(median(times)),
    round(Math.min(...times)),
    round(Math.max(...times)),
    times.length,
  ]),
});
