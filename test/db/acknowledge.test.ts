// Guards acknowledging in a handler's own transaction (I5): its effects happen once, whatever a handler does with its time,
// its batch, and an answer that it did not get; and extending what is over.
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import {
  connect,
  type HandlerContext,
  type PoolLike,
  type Sluice,
  type SluiceError,
  type SqlExecutor,
} from 'sluice';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';
import { fill } from '../support/filled.ts';
import { lossyPool } from '../support/lossy-pool.ts';
import { upTo } from '../support/up-to.ts';

const db = useDatabase({ allowOpenSessions: true });
let sluice: Sluice;
beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString, fallbackPollMs: 200 });
  await db.query('create table effects (n integer)');
});
beforeEach(async () => db.query('truncate effects'));
afterAll(async () => sluice.close());

const SOON = { backoff: { initialMs: 1, maxMs: 1 } };
const code = (wanted: SluiceError['code']): unknown => expect.objectContaining({ code: wanted });

const take = async (tx: SqlExecutor, n: number): Promise<unknown> =>
  tx.query('insert into effects values ($1)', [n]);

async function effects(): Promise<number[]> {
  const { rows } = await db.query<{ n: number }>('select n from effects order by n');
  return rows.map(({ n }) => n);
}

test('I5: whoever has taken too long acknowledges nothing any more, although the lease goes on', async () => {
  const stream = await fill(sluice, 3);
  const group = stream.group('g', SOON);
  const ending = new AbortController();
  const late: unknown[] = [];
  const consuming = group.consume(
    async ({ data }, { attempt, signal, transaction }) => {
      const isLate = data === 2 && attempt === 1;
      await transaction(async (tx) => {
        await take(tx, data);
        if (isLate) await until(() => signal.aborted);
      }).catch((error: unknown) => {
        if (isLate) late.push(error);
        throw error;
      });
    },
    { concurrency: 3, handlerTimeoutMs: 50, signal: ending.signal },
  );
  await until(async () => late.length > 0 && (await group.stats()).lag === 0);
  ending.abort();
  await consuming;
  expect(late).toEqual([code('lease_lost')]);
  expect(await effects()).toEqual([1, 2, 3]);
});

test('I5: nor does it commit a transaction of its own, even if it does not mind', async () => {
  const stream = await fill(sluice, 2);
  const group = stream.group('g', SOON);
  const ending = new AbortController();
  const pool = lossyPool(db.connectionString);
  const late: unknown[] = [];
  const consuming = group.consume(
    async ({ data }, { attempt, signal, ack }) => {
      const tx = await pool.connect();
      await tx.query('begin');
      await take(tx, data);
      if (data === 1 && attempt === 1) await until(() => signal.aborted);
      await ack({ tx }).catch((error: unknown) => late.push(error));
      await tx.query('commit');
      tx.release();
    },
    { concurrency: 2, handlerTimeoutMs: 200, signal: ending.signal },
  );
  await until(async () => late.length > 0 && (await group.stats()).lag === 0);
  ending.abort();
  await consuming;
  await pool.end();
  expect(late).toContainEqual(code('lease_lost'));
  expect(await effects()).toEqual([1, 2]);
});

test('I5: nor does a handler that consuming has not waited for', async () => {
  const stream = await fill(sluice, 1);
  const group = stream.group('g');
  const ending = new AbortController();
  const late: unknown[] = [];
  await group.consume(
    async ({ data }, { signal, transaction }) => {
      const trying = transaction(async (tx) => {
        await take(tx, data);
        ending.abort();
        await until(() => signal.aborted);
      });
      await trying.catch((error: unknown) => late.push(error));
    },
    { drainMs: 0, signal: ending.signal },
  );
  await until(() => late.length === 1);
  expect(late).toEqual([code('lease_lost')]);
  expect(await effects()).toEqual([]);
  expect(await group.stats()).toMatchObject({ lag: 1, inFlight: 0 });
});

const forEver = async (): Promise<never> => new Promise(() => {});

test('I11: nor does closing wait for a handler that keeps its transaction for ever', async () => {
  const stream = await fill(sluice, 1);
  const own = await connect({ connectionString: db.connectionString });
  const codes: string[] = [];
  let begun = false;
  const consuming = own
    .stream<number>(stream.name)
    .group('g')
    .consume(
      async ({ data }, { transaction }) =>
        transaction(async (tx) => {
          await take(tx, data);
          begun = true;
          await forEver();
        }).catch((error: SluiceError) => {
          codes.push(error.code);
        }),
      { drainMs: 10 },
    );
  await until(() => begun);
  await own.close();
  await consuming;
  await until(() => codes.length > 0);
  expect(codes).toEqual(['lease_lost']);
  expect(await effects()).toEqual([]);
  expect(await stream.group('g').stats()).toMatchObject({ lag: 1, inFlight: 0 });
});

test('I7: handlers that keep their transactions for ever keep no connections', async () => {
  const stream = await fill(sluice, 20);
  const group = stream.group('g', SOON);
  const ending = new AbortController();
  const consuming = group.consume(
    async ({ data }, { attempt, transaction }) => {
      await transaction(async (tx) => {
        await take(tx, data);
        if (attempt === 1) await forEver();
      });
    },
    { concurrency: 10, handlerTimeoutMs: 150, signal: ending.signal },
  );
  await until(async () => (await group.stats()).lag === 0);
  ending.abort();
  await consuming;
  expect(await effects()).toEqual(upTo(20));
});

test('I5: what a batch said had failed is not acknowledged with the others', async () => {
  const stream = await fill(sluice, 4);
  const group = stream.group('g', SOON);
  const ending = new AbortController();
  const consuming = group.consumeBatch(
    async (events, { attempt, fail, transaction }) => {
      const isBad = (offset: bigint): boolean => offset === 2n && attempt(offset) === 1;
      for (const { offset } of events) if (isBad(offset)) fail(offset, new Error('not yet'));
      await transaction(async (tx) => {
        for (const { data, offset } of events) if (!isBad(offset)) await take(tx, data);
      });
    },
    { signal: ending.signal },
  );
  await until(async () => (await group.stats()).lag === 0);
  ending.abort();
  await consuming;
  expect(await effects()).toEqual(upTo(4));
});

test('a batch of which all has failed has nothing to acknowledge', async () => {
  const stream = await fill(sluice, 1);
  const group = stream.group('g', { maxAttempts: 1 });
  const ending = new AbortController();
  const consuming = group.consumeBatch(
    async ([event], { fail, transaction }) => {
      fail((event as { offset: bigint }).offset, new Error('no'));
      await transaction(async (tx) => take(tx, 1));
    },
    { signal: ending.signal },
  );
  await until(async () => (await group.stats()).dead === 1);
  ending.abort();
  await consuming;
  for await (const { error } of group.deadLetters.list()) expect(error).toMatch(/nothing to acknowledge/);
  expect(await effects()).toEqual([]);
});

/** Commits, and says that the connection was lost, so often. */
function forgetful(times: number): { readonly pool: PoolLike; end(this: void): Promise<void> } {
  const pool = lossyPool(db.connectionString);
  let left = times;
  pool.on('connect', (client) => {
    const query = client.query.bind(client) as (...given: unknown[]) => unknown;
    Object.assign(client, {
      query: (...given: unknown[]): unknown => {
        const [statement] = given as [{ text?: string }];
        if (statement.text !== 'commit' || left === 0) return query(...given);
        left -= 1;
        return (query(...given) as Promise<unknown>).then(() => {
          throw Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' });
        });
      },
    });
  });
  return { pool, end: async () => pool.end() };
}

test('I5: a transaction that may have committed is not tried again by the same handler', async () => {
  const stream = await fill(sluice, 2);
  const { pool, end } = forgetful(1);
  const own = await connect({ pool, listenConnectionString: db.connectionString });
  const group = own.stream<number>(stream.name).group('g', SOON);
  const ending = new AbortController();
  const codes: unknown[] = [];
  const consuming = group.consume(
    async ({ data }, { transaction }) => {
      const work = async (): Promise<unknown> => transaction(async (tx) => take(tx, data));
      await work().catch(async (error: SluiceError) => {
        codes.push(error.code);
        await work().catch((again: SluiceError) => codes.push(again.code));
        throw error;
      });
    },
    { signal: ending.signal },
  );
  await until(async () => (await group.stats()).lag === 0);
  ending.abort();
  await consuming;
  await own.close();
  await end();
  expect(codes).toEqual(['connection_lost', 'lease_lost']);
  expect(await effects()).toEqual([1, 2]);
});

test('I5: nor are two at once', async () => {
  const stream = await fill(sluice, 1);
  const group = stream.group('g', SOON);
  const ending = new AbortController();
  let results: PromiseSettledResult<unknown>[] = [];
  const consuming = group.consume(
    async ({ data }, { transaction }) => {
      const work = async (): Promise<unknown> => transaction(async (tx) => take(tx, data));
      results = await Promise.allSettled([work(), work()]);
    },
    { signal: ending.signal },
  );
  await until(async () => (await group.stats()).lag === 0);
  ending.abort();
  await consuming;
  expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
  expect(await effects()).toEqual([1]);
});

test('a transaction that certainly failed may be tried again', async () => {
  const stream = await fill(sluice, 1);
  const group = stream.group('g', SOON);
  await db.query(`create table once (n integer constraint once_only unique deferrable initially deferred)`);
  const ending = new AbortController();
  const errors: unknown[] = [];
  const consuming = group.consume(
    async ({ data }, { transaction }) => {
      const twice = transaction(async (tx) => tx.query('insert into once values (1), (1)', []));
      await twice.catch((error: unknown) => errors.push(error));
      await transaction(async (tx) => take(tx, data));
    },
    { signal: ending.signal },
  );
  await until(async () => (await group.stats()).lag === 0);
  ending.abort();
  await consuming;
  expect(errors).toEqual([expect.objectContaining({ constraint: 'once_only' })]);
  expect(await effects()).toEqual([1]);
});

test('I5: a lease of which nothing is left is not extended, and is not called lost for it', async () => {
  const stream = await fill(sluice, 1);
  const group = stream.group('g', { keyed: { partitions: 2 } });
  const ending = new AbortController();
  const lost: unknown[] = [];
  const onLost = (message: unknown): void => void lost.push(message);
  subscribe('sluice:group.lost', onLost);
  const contexts: HandlerContext[] = [];
  const consuming = group.consume(
    async (_event, context) => {
      contexts.push(context);
      return Promise.resolve();
    },
    { signal: ending.signal },
  );
  await until(async () => (await group.stats()).lag === 0);
  await expect(contexts[0]?.extend(1000)).rejects.toEqual(code('lease_lost'));
  ending.abort();
  await consuming;
  unsubscribe('sluice:group.lost', onLost);
  expect(lost).toEqual([]);
});
