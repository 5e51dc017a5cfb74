// pg-boss 10, the last that supports Node 20. For rates its fastest documented way, fetch and complete in a loop, since
// its workers pause between two fetches; event by event as it comes, its workers with their defaults. Live: workers that
// our own NOTIFY wakes (notifyWorker), because by themselves they poll every half second at the soonest.
import { Pool } from 'pg';
import PgBoss from 'pg-boss';
import { createBell, openClients, startLoops } from '../loops.mjs';
import { batches, countOf, settle } from '../waiting.mjs';
import { withClient } from '../../support/server.mjs';

const QUEUE = 'events';
const LEAST_POLL_S = 0.5;

/** Without what runs in the background: it has nothing to do in a minute. @param {string} url */
const open = async (url) => {
  const boss = new PgBoss({ connectionString: url, supervise: false, schedule: false });
  boss.on('error', (error) => console.error('pg-boss reports', error.message));
  await boss.start();
  return boss;
};

/** @param {PgBoss} boss */
const close = (boss) => boss.stop({ graceful: false, wait: true });

/** @type {import('../system.mjs').System['install']} */
export const install = async (url) => {
  const boss = await open(url);
  await boss.createQueue(QUEUE);
  await close(boss);
};

/** Emptied, because it keeps what was completed. @type {import('../system.mjs').System['load']} */
export async function load(url, count) {
  const boss = await open(url);
  await boss.clearStorage();
  for (const batch of batches(count)) await boss.insert(batch.map((data) => ({ name: QUEUE, data })));
  await close(boss);
  await settle(url, 'pgboss.job');
  return undefined;
}

/** @type {import('../system.mjs').System['left']} */
export const left = (url) => countOf(url, `select count(*) from pgboss.job where state <> 'completed'`);

/** @type {import('../system.mjs').System['openConsumers']} */
export async function openConsumers(url) {
  const boss = await open(url);
  return {
    async start(how, handle) {
      if (how.asItComes || how.live) return startWorkers({ boss, url }, how, handle);
      return startLoops(Array.from({ length: how.consumers }), createBell(1000), async () => {
        const jobs = await boss.fetch(QUEUE, { batchSize: how.batch });
        for (const { data } of jobs) handle(/** @type {import('../system.mjs').Data} */ (data));
        if (jobs.length > 0)
          await boss.complete(
            QUEUE,
            jobs.map(({ id }) => id),
          );
        return jobs.length;
      });
    },
    close: () => close(boss),
  };
}

/**
 * @param {{ boss: PgBoss, url: string }} connected
 * @param {import('../system.mjs').How} how
 * @param {(data: import('../system.mjs').Data) => void} handle
 * @returns {Promise<import('../system.mjs').Consuming>}
 */
async function startWorkers({ boss, url }, { consumers, batch, live }, handle) {
  const options = live ? { batchSize: batch, pollingIntervalSeconds: LEAST_POLL_S } : {};
  const ids = await Promise.all(
    Array.from({ length: consumers }, () =>
      boss.work(QUEUE, options, async (jobs) => {
        for (const { data } of jobs) handle(/** @type {import('../system.mjs').Data} */ (data));
      }),
    ),
  );
  const [listener] = live ? await openClients(url, 1) : [];
  let woken = 0;
  listener?.on('notification', () => boss.notifyWorker(ids[(woken += 1) % ids.length] ?? ''));
  await listener?.query('listen bench_boss');
  return {
    settled: () => untilNoneIsActive(url),
    async stop() {
      await listener?.end();
      for (const id of ids) await boss.offWork({ id });
      await untilNoneIsActive(url);
    },
  };
}

/** Its workers do not wait for an acknowledgement. @param {string} url */
const untilNoneIsActive = (url) =>
  withClient(url, async (client) => {
    for (let active = true; active;) {
      const { rows } = await client.query(
        `select exists (select from pgboss.job where name = $1 and state = 'active') as active`,
        [QUEUE],
      );
      active = rows[0].active;
    }
  });

/** @type {import('../system.mjs').System['openProducer']} */
export async function openProducer(url) {
  const boss = await open(url);
  const pool = new Pool({ connectionString: url, max: 2 });
  return {
    async send(data) {
      await boss.send(QUEUE, data);
      await pool.query('notify bench_boss');
    },
    async close() {
      await close(boss);
      await pool.end();
    },
  };
}
