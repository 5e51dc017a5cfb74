// pg-boss 10, the last that supports Node 20. By themselves its workers pause between two fetches, half a second at the
// least, so its fastest documented way is to wake them (notifyWorker): from their own handler while there is a backlog,
// live by a NOTIFY of ours. Faster still without its order by priority. Event by event as it comes: with its defaults.
import { Pool } from 'pg';
import PgBoss from 'pg-boss';
import { openClients } from '../loops.mjs';
import { batches, countOf, settle, untilZero } from '../waiting.mjs';

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
      /** @type {string[]} */
      const ids = [];
      const wake = (/** @type {number} */ worker) => boss.notifyWorker(ids[worker % ids.length] ?? '');
      const backlog = !how.asItComes && !how.live;
      for (let worker = 0; worker < how.consumers; worker += 1) {
        const id = await boss.work(QUEUE, settingsFor(how), async (jobs) => {
          for (const { data } of jobs) handle(/** @type {import('../system.mjs').Data} */ (data));
          if (backlog) wake(worker);
        });
        ids.push(id);
      }
      const listener = how.live ? await listen(url, wake) : undefined;
      return {
        settled: () => untilNoneIsActive(url),
        async stop() {
          await listener?.end();
          for (const id of ids) await boss.offWork({ id });
          await untilNoneIsActive(url);
        },
      };
    },
    close: () => close(boss),
  };
}

/** @param {import('../system.mjs').How} how */
const settingsFor = ({ batch, asItComes }) =>
  asItComes ? {} : { batchSize: batch, pollingIntervalSeconds: LEAST_POLL_S, priority: false };

/** Wakes one worker after another. @param {string} url @param {(worker: number) => void} wake */
async function listen(url, wake) {
  const [client] = await openClients(url, 1);
  let notified = 0;
  client?.on('notification', () => wake((notified += 1)));
  await client?.query('listen bench_boss');
  return client;
}

/** Its workers do not wait for an acknowledgement. @param {string} url */
const untilNoneIsActive = (url) =>
  untilZero(
    url,
    `select count(*) from (select from pgboss.job where name = '${QUEUE}' and state = 'active' limit 1) as active`,
  );

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
