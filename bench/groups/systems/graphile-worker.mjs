// graphile-worker 0.17, the last that supports Node 20. Its jobs are handled one by one; in batches as its documentation
// of performance has it: a local queue that fetches so many at once, and completions that are batched.
import { Logger, makeWorkerUtils, run } from 'graphile-worker';
import { batches, countOf, settle } from '../waiting.mjs';
import { withClient } from '../../support/server.mjs';

const TASK = 'event';
/** In its documentation, of one process. */
const CONCURRENT_JOBS = 24;
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

/** @param {import('../system.mjs').How} how */
function settingsFor({ consumers, batch, asItComes, live }) {
  if (asItComes || live || batch === 1) {
    return { concurrentJobs: consumers, maxPoolSize: Math.max(10, consumers + 2) };
  }
  const concurrentJobs = Math.min(batch, CONCURRENT_JOBS);
  return {
    concurrentJobs,
    maxPoolSize: concurrentJobs + 1,
    localQueue: { size: batch },
    completeJobBatchDelay: 0,
    failJobBatchDelay: 0,
  };
}

/** @type {import('../system.mjs').System['left']} */
export const left = (url) => countOf(url, 'select count(*) from graphile_worker._private_jobs');

/** @type {import('../system.mjs').System['openConsumers']} */
export async function openConsumers(url) {
  return {
    async start(how, handle) {
      const runner = await run({
        preset: { worker: { connectionString: url, logger, ...settingsFor(how) } },
        noHandleSignals: true,
        taskList: {
          [TASK]: async (data) => handle(/** @type {import('../system.mjs').Data} */ (data)),
        },
        parsedCronItems: [],
      });
      return { settled: () => untilNoneIsLocked(url), stop: () => runner.stop() };
    },
    close: async () => {},
  };
}

/** It does not wait for an acknowledgement; while more is waiting, one or another is always locked. @param {string} url */
const untilNoneIsLocked = (url) =>
  withClient(url, async (client) => {
    const started = performance.now();
    for (let locked = true; locked && performance.now() - started < PATIENCE_MS;) {
      const { rows } = await client.query(
        'select exists (select from graphile_worker._private_jobs where locked_at is not null) as locked',
      );
      locked = rows[0].locked;
    }
  });

/** @type {import('../system.mjs').System['openProducer']} */
export async function openProducer(url) {
  const utils = await openUtils(url);
  return { send: (data) => utils.addJob(TASK, data), close: async () => utils.release() };
}
