// graphile-worker 0.17, the last that supports Node 20. Its jobs are handled one by one; in batches as its documentation
// of performance has it: a local queue that fetches so many at once, and completions that are batched.
import { Logger, makeWorkerUtils, run } from 'graphile-worker';
import { batches, countOf, settle, untilZero } from '../waiting.mjs';
import { withClient } from '../../support/server.mjs';

const TASK = 'event';
/** In its documentation, of one process. */
const CONCURRENT_JOBS = 24;
/** Its default. */
const MAX_POOL_SIZE = 10;
const PATIENCE_MS = 2000;

const logger = new Logger(() => () => undefined);

/** @param {string} url */
const openUtils = (url) => makeWorkerUtils({ connectionString: url, logger });

/** @type {import('../system.mjs').System['install']} */
export const install = async (url) => {
  const utils = await openUtils(url);
  await utils.migrate();
  await utils.release();
};

/** @type {import('../system.mjs').System['load']} */
export async function load(url, count) {
  await withClient(url, (client) => client.query('truncate graphile_worker._private_jobs'));
  const utils = await openUtils(url);
  for (const batch of batches(count)) {
    await utils.addJobs(batch.map((data) => ({ identifier: TASK, payload: data })));
  }
  await utils.release();
  await settle(url, 'graphile_worker._private_jobs');
  return undefined;
}

/**
 * A pool for each consumer, which fetches so many at once; by one, a single pool that fetches as many as are free.
 *
 * @param {import('../system.mjs').How} how
 */
function settingsFor({ consumers, batch, asItComes, live }) {
  const single = { pools: 1, concurrentJobs: consumers, maxPoolSize: MAX_POOL_SIZE };
  if (asItComes) return single;
  const batched = { completeJobBatchDelay: 0, failJobBatchDelay: 0 };
  if (live || batch === 1) return { ...single, ...batched };
  const concurrentJobs = Math.min(batch, CONCURRENT_JOBS);
  return {
    pools: consumers,
    concurrentJobs,
    maxPoolSize: MAX_POOL_SIZE,
    localQueue: { size: batch },
    ...batched,
  };
}

/** @type {import('../system.mjs').System['left']} */
export const left = (url) => countOf(url, 'select count(*) from graphile_worker._private_jobs');

/** @type {import('../system.mjs').System['openConsumers']} */
export async function openConsumers(url) {
  return {
    async start(how, handle) {
      const { pools, ...settings } = settingsFor(how);
      const taskList = {
        [TASK]: async (/** @type {unknown} */ data) =>
          handle(/** @type {import('../system.mjs').Data} */ (data)),
      };
      const preset = { worker: { connectionString: url, logger, ...settings } };
      const runners = await Promise.all(
        Array.from({ length: pools }, () =>
          run({ preset, taskList, parsedCronItems: [], noHandleSignals: true }),
        ),
      );
      return {
        settled: () => untilNoneIsLocked(url),
        stop: async () => {
          await Promise.all(runners.map((runner) => runner.stop()));
        },
      };
    },
    close: async () => {},
  };
}

/** It does not wait for an acknowledgement; while more is waiting, one or another is always locked. @param {string} url */
const untilNoneIsLocked = (url) =>
  untilZero(
    url,
    'select count(*) from (select from graphile_worker._private_jobs where locked_at is not null limit 1) as locked',
    PATIENCE_MS,
  );

/** @type {import('../system.mjs').System['openProducer']} */
export async function openProducer(url) {
  const utils = await openUtils(url);
  return { send: (data) => utils.addJob(TASK, data), close: async () => utils.release() };
}
