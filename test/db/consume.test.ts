// Guards consuming with handlers (I5): in order, so many at a time, to the end; failures, timeouts, pauses and drains.
import { once } from 'node:events';
import {
  connect,
  type ConsumeOptions,
  type GroupOptions,
  type Sluice,
  type SluiceError,
  type Stream,
} from 'sluice';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { fill } from '../support/filled.ts';
import { upTo } from '../support/up-to.ts';

const db = useDatabase({ allowOpenSessions: true });
let sluice: Sluice;
beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString, fallbackPollMs: 200 });
});
afterAll(async () => sluice.close());

const SOON = { backoff: { initialMs: 1, maxMs: 1 } };
const code = (wanted: SluiceError['code']): unknown => expect.objectContaining({ code: wanted });

const filled = async (count: number, keyOf?: (n: number) => string | undefined): Promise<Stream<number>> =>
  fill(sluice, count, keyOf);

test('I5: everything in order, what is there and what comes', async () => {
  const stream = await filled(2500);
  const seen: number[] = [];
  const ending = new AbortController();
  const consuming = stream.group('g').consume(
    async ({ data }) => {
      seen.push(data);
      return Promise.resolve();
    },
    { signal: ending.signal },
  );
  await until(() => seen.length === 2500);
  await stream.append(2501);
  await stream.publish(2502);
  await until(() => seen.length === 2502);
  ending.abort();
  await consuming;
  expect(seen).toEqual(upTo(2502));
  expect(await stream.group('g').stats()).toMatchObject({ lag: 0, inFlight: 0, members: 0 });
});

test('a backlog of 2 000 with concurrency 4 never has more than 4 handlers at work', async () => {
  const stream = await filled(2000);
  const ending = new AbortController();
  let [running, most, handled] = [0, 0, 0];
  const consuming = stream.group('g').consume(
    async () => {
      most = Math.max(most, (running += 1));
      await new Promise(setImmediate);
      running -= 1;
      handled += 1;
    },
    { concurrency: 4, signal: ending.signal },
  );
  await until(() => handled === 2000);
  ending.abort();
  await consuming;
  expect(most).toBe(4);
});

test('slow handlers hold nothing ready that another consumer could have', async () => {
  const stream = await filled(10);
  const ending = new AbortController();
  const hands: number[] = [];
  const handler = async ({ data }: { data: number }, { signal }: { signal: AbortSignal }): Promise<void> => {
    hands.push(data);
    await once(signal, 'abort');
  };
  const options: ConsumeOptions = { concurrency: 2, signal: ending.signal, drainMs: 0 };
  const consuming = [1, 2, 3].map(async () => stream.group('g').consume(handler, options));
  await until(() => hands.length === 6);
  expect(await stream.group('g').stats()).toMatchObject({ inFlight: 6, members: 3, lag: 10 });
  ending.abort();
  await Promise.all(consuming);
  expect(await stream.group('g').stats()).toMatchObject({ inFlight: 0, lag: 10 });
});

test('batches: up to maxBatch events in order; what fails by name comes again alone', async () => {
  const stream = await filled(250);
  const ending = new AbortController();
  const sizes: number[] = [];
  const done = new Set<number>();
  const again: [number, number][] = [];
  const consuming = stream.group('g', SOON).consumeBatch(
    async (events, context) => {
      sizes.push(events.length);
      for (const { data, offset } of events) {
        const attempt = context.attempt(offset);
        if (attempt > 1) again.push([data, attempt]);
        if (data % 100 === 0 && attempt === 1) context.fail(offset, new Error('not now'));
        else done.add(data);
      }
      return Promise.resolve();
    },
    { maxBatch: 40, signal: ending.signal },
  );
  await until(() => done.size === 250);
  ending.abort();
  await consuming;
  expect(Math.max(...sizes)).toBe(40);
  expect(again.toSorted(([a], [b]) => a - b)).toEqual([
    [100, 2],
    [200, 2],
  ]);
});

test('I5: a batch that fails is halved until the culprit is alone; its neighbours are not given up', async () => {
  const stream = await filled(50);
  const ending = new AbortController();
  const done = new Set<number>();
  const group = stream.group('g', { ...SOON, maxAttempts: 2 });
  const died = nextMessage('sluice:group.died');
  const consuming = group.consumeBatch(
    async (events) => {
      if (events.some(({ data }) => data === 17)) throw new Error('17');
      for (const { data } of events) done.add(data);
      return Promise.resolve();
    },
    { signal: ending.signal },
  );
  await died;
  await until(() => done.size === 49);
  ending.abort();
  await consuming;
  const dead: number[] = [];
  for await (const { event } of group.deadLetters.list()) dead.push(event.data);
  expect(dead).toEqual([17]);
});

test('what comes one by one while a batch is handled is the next batch, however fast those before it were', async () => {
  const stream = await filled(0);
  const ending = new AbortController();
  const batches: number[][] = [];
  let release = (): void => {};
  const blocked = new Promise<void>((resolve) => (release = resolve));
  const consuming = stream.group('g').consumeBatch(
    async (events) => {
      batches.push(events.map(({ data }) => data));
      if (events.some(({ data }) => data === 4)) await blocked;
    },
    { maxBatch: 2, signal: ending.signal },
  );
  for (const n of [1, 2, 3, 4]) {
    await stream.append(n);
    await until(() => batches.length === n);
  }
  for (const n of [5, 6]) {
    const heard = nextMessage('sluice:readers.notified');
    await stream.append(n);
    await heard;
  }
  release();
  await until(() => batches.flat().length === 6);
  ending.abort();
  await consuming;
  expect(batches).toEqual([[1], [2], [3], [4], [5, 6]]);
});

describe('handlers that misbehave', () => {
  test('I5: one that throws, whatever it throws, is tried again and then given up', async () => {
    const stream = await filled(5);
    const ending = new AbortController();
    const thrown: unknown[] = [new Error('an error'), 'text', undefined, null, { deep: { a: 1n } }];
    const attempts = new Map<number, number[]>();
    const group = stream.group('g', { ...SOON, maxAttempts: 3 });
    const consuming = group.consume(
      async ({ data }, { attempt }) => {
        attempts.set(data, [...(attempts.get(data) ?? []), attempt]);
        return Promise.reject(thrown[data - 1]); // which may be no error
      },
      { signal: ending.signal },
    );
    await until(async () => (await group.stats()).dead === 5);
    ending.abort();
    await consuming;
    expect([...attempts.values()]).toEqual(upTo(5).map(() => [1, 2, 3]));
    const errors: (string | null)[] = [];
    for await (const { error } of group.deadLetters.list()) errors.push(error);
    expect(errors).toEqual([
      expect.stringContaining('an error'),
      'text',
      'undefined',
      'null',
      expect.stringContaining('deep'),
    ]);
  });

  test('one that never returns is timed out, told so, and its event comes again', async () => {
    const stream = await filled(1);
    const ending = new AbortController();
    const reasons: unknown[] = [];
    const attempts: number[] = [];
    const consuming = stream.group('g', SOON).consume(
      async (_event, { attempt, signal }) => {
        attempts.push(attempt);
        if (attempt === 1) {
          signal.addEventListener('abort', () => reasons.push(signal.reason));
          await new Promise(() => {});
        }
      },
      { handlerTimeoutMs: 20, signal: ending.signal },
    );
    await until(async () => (await stream.group('g').stats()).lag === 0);
    ending.abort();
    await consuming;
    expect(attempts).toEqual([1, 2]);
    expect(reasons).toEqual([expect.objectContaining({ name: 'TimeoutError' })]);
  });

  test('an error may say when to try again', async () => {
    const stream = await filled(1);
    const ending = new AbortController();
    const failed = nextMessage('sluice:group.failed');
    const consuming = stream.group('g').consume(
      async () => {
        throw Object.assign(new Error('busy'), { retryAt: new Date(Date.now() + 3_600_000) });
      },
      { signal: ending.signal },
    );
    await failed;
    await until(async () => (await stream.group('g').stats()).retries === 1);
    ending.abort();
    await consuming;
    const { rows } = await db.query(
      `select due_at > now() + interval '50 minutes' as later from sluice.pieces p join sluice.groups g on g.id = p.group_id
       join sluice.streams s on s.id = g.stream_id where s.name = $1`,
      [stream.name],
    );
    expect(rows).toEqual([{ later: true }]);
  });

  test('the breaker stops after so many failures in a row, and goes on after its pause', async () => {
    const stream = await filled(30);
    const ending = new AbortController();
    let isDown = true;
    let calls = 0;
    const done = new Set<number>();
    const paused = nextMessage('sluice:group.paused');
    const consuming = stream.group('g', SOON).consume(
      async ({ data }) => {
        calls += 1;
        if (isDown) throw new Error('the service is down');
        done.add(data);
        return Promise.resolve();
      },
      { breaker: { failures: 5, pauseMs: 50 }, signal: ending.signal },
    );
    await paused;
    expect(calls).toBe(5);
    isDown = false;
    await until(() => done.size === 30);
    ending.abort();
    await consuming;
  });
});

describe('the end', () => {
  test('I11: what was begun is finished, what was not goes back uncounted', async () => {
    const stream = await filled(100);
    const ending = new AbortController();
    const seen: number[] = [];
    const consuming = stream.group('g').consume(
      async ({ data }) => {
        seen.push(data);
        if (seen.length === 20) ending.abort();
        await new Promise(setImmediate);
      },
      { signal: ending.signal },
    );
    await consuming;
    expect(seen).toEqual(upTo(20));
    const rest = await stream.group('g').claim();
    expect(rest?.events.map(({ data }) => data)).toEqual(upTo(100).slice(20));
    expect(rest?.attempt(21n)).toBe(1);
  });

  test('I11: closing ends consumers, waits no longer than drainMs, and gives back what is in hand', async () => {
    const stream = await filled(1);
    const own = await connect({ connectionString: db.connectionString });
    const begun: AbortSignal[] = [];
    const consuming = own
      .stream(stream.name)
      .group('g')
      .consume(
        async (_event, { signal }) => {
          begun.push(signal);
          await new Promise(() => {});
        },
        { drainMs: 10 },
      );
    await until(() => begun.length === 1);
    await own.close();
    await consuming;
    expect(begun[0]?.aborted).toBe(true);
    const again = await stream.group('g').claim();
    expect(again?.attempt(1n)).toBe(2);
    await expect(own.stream(stream.name).group('g').claim()).rejects.toEqual(code('closed'));
  });

  test.each<[string, GroupOptions]>([
    ['a group', {}],
    ['a keyed group', { keyed: { partitions: 4 } }],
  ])(
    'I11: what %s gives back unfinished is handled side by side again, not event by event',
    async (_, options) => {
      const stream = await filled(4, String);
      const group = stream.group('g', options);
      for (const drainMs of [0, 10_000]) {
        const ending = new AbortController();
        const begun = new Set<number>();
        const consuming = group.consume(
          async ({ data }, { signal }) => {
            begun.add(data);
            await (drainMs === 0 ? once(signal, 'abort') : until(() => begun.size === 4));
          },
          { concurrency: 4, drainMs, signal: ending.signal },
        );
        await until(() => begun.size === 4);
        ending.abort();
        await consuming;
      }
      expect(await group.stats()).toMatchObject({ lag: 0, dead: 0 });
    },
  );

  test.each<[string, GroupOptions]>([
    ['a group', {}],
    ['a keyed group', { keyed: { partitions: 1 } }],
  ])('I5: in %s, a batch that hangs each time is taken apart', async (_, options) => {
    const stream = await filled(8, String);
    const group = stream.group('g', { ...options, backoff: { initialMs: 100, maxMs: 400 } });
    const sizes: number[] = [];
    const handled = new Set<number>();
    const restarts = 20;
    for (let n = 0; n < restarts && handled.size < 7; n += 1) {
      const ending = new AbortController();
      await group.consumeBatch(
        async (events, { signal }) => {
          if (events.every(({ data }) => data !== 5)) {
            for (const { data } of events) handled.add(data);
            if (handled.size === 7) ending.abort();
            return;
          }
          sizes.push(events.length);
          ending.abort();
          await once(signal, 'abort');
        },
        { drainMs: 0, signal: ending.signal },
      );
    }
    expect([...handled].toSorted((a, b) => a - b)).toEqual([1, 2, 3, 4, 6, 7, 8]);
    expect(sizes.slice(0, 2)).toEqual([8, 8]); // of the first time, nothing is held against them
    expect(await group.stats()).toMatchObject({ lag: 1, dead: 0 });
  });
});

describe('acknowledged by the handler itself', () => {
  test('I5: effects happen once, whether the transaction commits, fails or the handler throws after it', async () => {
    const stream = await filled(60);
    await db.query('create table if not exists effects (n integer)');
    const ending = new AbortController();
    const group = stream.group('g', SOON);
    const consuming = group.consume(
      async ({ data }, { attempt, transaction }) => {
        await transaction(async (tx) => {
          await tx.query('insert into effects values ($1)', [data]);
          if (attempt === 1 && data % 3 === 1) throw new Error('before the commit');
        });
        if (attempt === 1 && data % 3 === 2) throw new Error('after the commit');
      },
      { concurrency: 8, signal: ending.signal },
    );
    await until(async () => (await group.stats()).lag === 0);
    ending.abort();
    await consuming;
    const { rows } = await db.query('select n, count(*)::int as times from effects group by n order by n');
    expect(rows).toEqual(upTo(60).map((n) => ({ n, times: 1 })));
  });

  test('I7: acknowledgements leave nothing behind, whatever else was in the lease', async () => {
    const stream = await filled(40);
    const ending = new AbortController();
    const consuming = stream.group('g').consume(
      async ({ data }, { transaction }) => {
        if (data < 20) await transaction(async () => Promise.resolve());
        // The others come after these were told of, at the end of their leases.
        if (data === 20) await nextMessage('sluice:group.settled');
      },
      { signal: ending.signal, maxBatch: 40, concurrency: 40 },
    );
    await until(async () => (await stream.group('g').stats()).lag === 0);
    ending.abort();
    await consuming;
    const { rows } = await db.query(
      'select count(*)::int as left from sluice.acks a where not exists (select from sluice.leases l where l.token = a.token)',
    );
    expect(rows).toEqual([{ left: 0 }]);
  });

  test('a transaction that is not committed acknowledges nothing', async () => {
    const stream = await filled(1);
    const ending = new AbortController();
    const attempts: number[] = [];
    const consuming = stream.group('g', SOON).consume(
      async (_event, { attempt, ack }) => {
        attempts.push(attempt);
        if (attempt > 1) return;
        const { default: pg } = await import('pg');
        const client = new pg.Client({ connectionString: db.connectionString });
        await client.connect();
        await client.query('begin');
        await ack({ tx: client });
        await expect(ack({ tx: client })).rejects.toEqual(code('lease_lost'));
        await client.query('rollback');
        await client.end();
      },
      { signal: ending.signal },
    );
    await until(() => attempts.length === 2);
    ending.abort();
    await consuming;
    expect(attempts).toEqual([1, 2]);
  });
});

test('throttle: so many per second of the whole group, on whatever processes', async () => {
  const stream = await filled(40);
  const other = await connect({ connectionString: db.connectionString });
  const ending = new AbortController();
  const at: number[] = [];
  const handler = async (): Promise<void> => {
    at.push(performance.now());
    return Promise.resolve();
  };
  const options = { throttle: { perSecond: 40 }, signal: ending.signal };
  const consuming = [sluice, other].map(async (each) =>
    each.stream(stream.name).group('g').consume(handler, options),
  );
  await until(() => at.length === 40);
  ending.abort();
  await Promise.all(consuming);
  await other.close();
  const [first = 0, last = 0] = [at[0], at.at(-1)];
  expect(last - first).toBeGreaterThan(850); // 40 events, of which at most 4 may go at once
});
