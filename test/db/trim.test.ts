// Guards I8 and I7 for trimming: a start that moves at once and only forward, for every reader; nobody skips or sees
// what is gone, whether its rows are still there or not; and rows that go in bounded batches, through crashes, however
// writers, passes, deletions and other trims come in between.
import { connect, type Sluice, type SluiceError, type Stream, type TrimOptions } from 'sluice';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';
import { backendOf, isBlocked, logOf, pass, publish } from '../support/log-sql.ts';
import { idOf, purge, purgeAll, spanOf } from '../support/retained.ts';

const db = useDatabase();
/** Nothing happens here but what a test does: no relay, no retention, no poll. */
let sluice: Sluice;
beforeAll(async () => {
  const alone = { relay: false, fallbackPollMs: 600_000, appendTimeoutMs: 100 };
  sluice = await connect({ connectionString: db.connectionString, ...alone });
});
afterAll(() => sluice.close());

let names = 0;
const streamOf = async (count: number): Promise<Stream<number>> => {
  const stream = sluice.stream<number>(`trim ${(names += 1)}`);
  await sluice.createStream(stream.name);
  for (let done = 0; done < count; done += 10_000) {
    await stream.appendMany(
      Array.from({ length: Math.min(10_000, count - done) }, (_, n) => ({ data: done + n + 1 })),
    );
  }
  return stream;
};
const offsetsOf = async (stream: Stream<number>, after: bigint | string): Promise<number[]> =>
  (await stream.read({ after })).events.map(({ offset }) => Number(offset));
/** Gives the events ages, in seconds, by offset. */
const age = async (stream: Stream, seconds: readonly number[]): Promise<void> => {
  await db.query(
    `update sluice.events e set at = clock_timestamp() - a.seconds * interval '1 second'
     from unnest($2::float8[]) with ordinality a (seconds, n) where e.stream_id = $1 and e."offset" = a.n`,
    [await idOf(db, stream.name), seconds],
  );
};

describe('what goes', () => {
  test.each<[string, TrimOptions, number]>([
    ['before an offset', { before: 4n }, 3],
    ['before the first', { before: 1n }, 0],
    ['everything, by offset', { before: 11n }, 10],
    ['by age', { maxAgeMs: 45_000 }, 5],
    ['younger than all', { maxAgeMs: 2_000_000 }, 0],
    ['an age beyond any calendar', { maxAgeMs: Number.MAX_SAFE_INTEGER }, 0],
    ['everything, by age', { maxAgeMs: 0 }, 10],
    ['by count', { maxCount: 4 }, 6],
    ['more than there are', { maxCount: 11 }, 0],
    ['everything, by count', { maxCount: 0 }, 10],
    ['the bound that takes most: age', { before: 2n, maxAgeMs: 25_000, maxCount: 9 }, 7],
    ['the bound that takes most: offset', { before: 10n, maxAgeMs: 25_000, maxCount: 9 }, 9],
  ])('%s', async (_, options, gone) => {
    const stream = await streamOf(10);
    await age(stream, [1000, 80, 70, 60, 50, 40, 30, 20, 10, 0.001]);
    const expected = { oldest: BigInt(gone + 1), removed: BigInt(gone) };
    expect(await stream.trim(options)).toEqual(expected);
    expect(await stream.info()).toMatchObject({
      head: 10n,
      oldest: expected.oldest,
      count: BigInt(10 - gone),
    });
    expect(await offsetsOf(stream, 'start')).toEqual(
      Array.from({ length: 10 - gone }, (__, n) => gone + n + 1),
    );
    // All rows are still there: the start is what counts. And what is gone is gone once.
    expect(await spanOf(db, stream.name)).toEqual({ start: gone, rows: [1, 10] });
    expect(await stream.trim(options)).toEqual({ ...expected, removed: 0n });
  });

  test('a start never moves back', async () => {
    const stream = await streamOf(10);
    await stream.trim({ before: 8n });
    for (const options of [{ before: 3n }, { maxCount: 9 }, { maxAgeMs: 100_000 }]) {
      expect(await stream.trim(options)).toEqual({ oldest: 8n, removed: 0n });
    }
    expect(await spanOf(db, stream.name)).toMatchObject({ start: 7 });
  });

  test('what is published and not moved is not trimmed, and a closed stream can be', async () => {
    const stream = await streamOf(2);
    await publish(db, stream.name, 3);
    expect(await stream.trim({ maxCount: 0 })).toEqual({ oldest: 3n, removed: 2n });
    await pass(db);
    expect(await offsetsOf(stream, 'start')).toEqual([3]);
    await db.query('select sluice.close_stream($1)', [stream.name]);
    expect(await stream.trim({ maxCount: 0 })).toEqual({ oldest: 4n, removed: 1n });
  });

  test('an empty stream has nothing to trim', async () => {
    const stream = await streamOf(0);
    for (const options of [{ before: 1n }, { maxCount: 0 }, { maxAgeMs: 0 }]) {
      expect(await stream.trim(options)).toEqual({ oldest: 1n, removed: 0n });
    }
  });
});

describe('bad input: a clear error, and nothing is trimmed', () => {
  type Bad = [string, unknown, typeof RangeError | typeof TypeError, RegExp];
  test.each<Bad>([
    ['no option', {}, TypeError, /give before, maxAgeMs or maxCount/],
    ['only undefined ones', { before: undefined }, TypeError, /give before, maxAgeMs or maxCount/],
    [
      'beyond the head',
      { before: 7n },
      RangeError,
      /before offset 7: its head is 5; before 6 trims all there is/,
    ],
    ['beyond any head', { before: 2n ** 63n }, RangeError, /before is 9223372036854775808/],
    ['offset zero', { before: 0n }, RangeError, /before is 0; give an offset from 1n/],
    ['a negative offset', { before: -1n }, RangeError, /before is -1/],
    ['an offset that is no bigint', { before: 3 }, TypeError, /before is 3; give .* bigint/],
    ['an offset as text', { before: '3' }, TypeError, /before is "3"; give an offset as a bigint/],
    ['a negative age', { maxAgeMs: -1 }, RangeError, /maxAgeMs is -1; give a whole number/],
    ['a fraction', { maxAgeMs: 1.5 }, RangeError, /maxAgeMs is 1\.5/],
    ['no number', { maxAgeMs: Number.NaN }, RangeError, /maxAgeMs is NaN/],
    ['for ever', { maxAgeMs: Infinity }, RangeError, /maxAgeMs is Infinity/],
    ['a negative count', { maxCount: -5 }, RangeError, /maxCount is -5/],
    ['a count too large', { maxCount: 2 ** 53 }, RangeError, /maxCount is 9007199254740992/],
    ['a count as text', { maxCount: '5' }, RangeError, /maxCount is "5"; give a whole number/],
    ['nothing', undefined, TypeError, /give before, maxAgeMs or maxCount/],
    ['one good, one bad', { before: 3n, maxCount: -1 }, RangeError, /maxCount is -1/],
  ])('%s', async (_, options, type, says) => {
    const stream = await streamOf(5);
    const error: unknown = await stream.trim(options as TrimOptions).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(type);
    expect((error as Error).message).toMatch(says);
    expect(await spanOf(db, stream.name)).toEqual({ start: 0, rows: [1, 5] });
  });

  test('by SQL too', async () => {
    const { name } = await streamOf(5);
    for (const call of ['$1', '$1, p_before => 0', '$1, p_max_count => -1', '$1, p_before => 7']) {
      await expect(db.query(`select sluice.trim_stream(${call})`, [name])).rejects.toMatchObject({
        code: '22023',
      });
    }
    expect(await spanOf(db, name)).toMatchObject({ start: 0 });
  });

  test('a stream that is not there', async () => {
    await expect(sluice.stream('no such').trim({ maxCount: 1 })).rejects.toMatchObject({
      code: 'stream_not_found',
      message: expect.stringContaining("stream 'no such' does not exist"),
    });
    expect(await sluice.stream('no such').info()).toBeNull();
  });

  test('a stream that somebody holds: overloaded, within the time of an append', async () => {
    const stream = await streamOf(5);
    await using holder = await openClient(db.connectionString);
    await holder.query('begin');
    await holder.query(`select sluice.append($1, '6')`, [stream.name]);
    await expect(stream.trim({ maxCount: 1 })).rejects.toMatchObject({ code: 'overloaded', retryable: true });
    await holder.query('commit');
    expect(await spanOf(db, stream.name)).toEqual({ start: 0, rows: [1, 6] });
  });
});

describe.each([
  ['with the rows still there', async () => {}],
  ['with the rows removed', () => purgeAll(db)],
] as const)('I8: readers, %s', (_, then) => {
  const cursorAt = async (stream: Stream<number>, offset: bigint): Promise<string> =>
    (await stream.read({ after: offset - 1n, limit: 1 })).cursor;

  test('at the last event that is gone nothing is missed; one before it is', async () => {
    const stream = await streamOf(6);
    const [third, fourth] = [await cursorAt(stream, 3n), await cursorAt(stream, 4n)];
    await stream.trim({ before: 5n });
    await then();
    for (const after of [4n, '4', fourth]) {
      expect(await offsetsOf(stream, after)).toEqual([5, 6]);
      const iterator = stream.subscribe({ after })[Symbol.asyncIterator]();
      expect((await iterator.next()).value).toMatchObject({ offset: 5n });
      await iterator.return?.();
    }
    for (const after of [0n, 3n, third]) {
      const lost = { code: 'cursor_expired', oldest: 5n, oldestCursor: fourth };
      await expect(stream.read({ after })).rejects.toMatchObject(lost);
      await expect(stream.subscribe({ after }).ready).rejects.toMatchObject(lost);
    }
  });

  test('of a stream that is trimmed to its head, and goes on', async () => {
    const stream = await streamOf(3);
    const last = await cursorAt(stream, 3n);
    await stream.trim({ before: 4n });
    await then();
    expect(await stream.read()).toMatchObject({
      events: [],
      cursor: last,
      head: 3n,
      oldest: 4n,
      upToDate: true,
    });
    expect(await stream.append(4)).toMatchObject({ offset: 4n });
    await publish(db, stream.name, 5);
    await pass(db);
    for (const after of ['start', last, 3n]) expect(await offsetsOf(stream, after)).toEqual([4, 5]);
    await expect(stream.read({ after: 2n })).rejects.toMatchObject({ code: 'cursor_expired', oldest: 4n });
  });

  test('a page never straddles the start: what was read before it stands, and the next page says what is gone', async () => {
    const stream = await streamOf(2500);
    const first = await stream.read();
    await stream.trim({ before: 1500n });
    await then();
    const error: unknown = await stream.read({ after: first.cursor }).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'cursor_expired', oldest: 1500n });
    const { oldestCursor } = error as SluiceError;
    expect(await offsetsOf(stream, oldestCursor!)).toEqual(Array.from({ length: 1000 }, (__, n) => 1500 + n));
    const before = await stream.read({ after: 1600n, limit: 100 });
    await stream.trim({ before: 1701n });
    await then();
    // It stands exactly on the last event that is gone.
    expect((await offsetsOf(stream, before.cursor))[0]).toBe(1701);
  });

  test('while trims go on beside it, a replay gets every event from some offset on, or is told', async () => {
    const stream = await streamOf(6000);
    let gaps = 0;
    let expected = 1n;
    const seen: bigint[] = [];
    const trimming = (async () => {
      for (let before = 500n; before <= 5500n; before += 250n) {
        await stream.trim({ before });
        await then();
      }
    })();
    for (let after: bigint | string = 0n; expected <= 6000n;) {
      try {
        for await (const { offset } of stream.subscribe({ after })) {
          expect(offset).toBe(expected);
          seen.push(offset);
          after = expected;
          expected += 1n;
          if (expected > 6000n) break;
        }
      } catch (error) {
        expect(error).toMatchObject({ code: 'cursor_expired' });
        const { oldest, oldestCursor } = error as SluiceError;
        expect(oldest).toBeGreaterThan(expected);
        gaps += 1;
        expected = oldest!;
        after = oldestCursor!;
      }
    }
    await trimming;
    expect(gaps).toBeLessThanOrEqual(21);
    expect(seen.at(-1)).toBe(6000n);
  });
});

describe('who comes in between', () => {
  /** Runs `work` on a session that waits for the one that holds the stream, then lets go of it. */
  const whileHeld = async <T>(hold: [string, unknown[]], work: [string, unknown[]]): Promise<T> => {
    await using holder = await openClient(db.connectionString);
    await using waiter = await openClient(db.connectionString);
    await holder.query('begin');
    await holder.query(...hold);
    const pid = await backendOf(waiter);
    const working = waiter.query<{ [key: string]: unknown }>(...work);
    await until(() => isBlocked(db, pid));
    const [, { rows }] = await Promise.all([holder.query('commit'), working]); // which may fail before the commit is answered
    return rows[0] as T;
  };
  const trimTo = (name: string, before: number): [string, unknown[]] => [
    'select oldest::int, removed::int from sluice.trim_stream($1, $2)',
    [name, before],
  ];

  test('an append that waits for a trim of everything gets the next offset, not the first', async () => {
    const { name } = await streamOf(4);
    const append: [string, unknown[]] = [
      `select first_offset::int as first from sluice.append_batch(array[$1], array[1], '5', array[0], p_wait_ms => null)`,
      [name],
    ];
    expect(await whileHeld(trimTo(name, 5), append)).toEqual({ first: 5 });
    expect(await spanOf(db, name)).toEqual({ start: 4, rows: [1, 5] });
    const bySql: [string, unknown[]] = [`select sluice.append($1, '6')::int as first`, [name]];
    expect(await whileHeld(trimTo(name, 6), bySql)).toEqual({ first: 6 });
  });

  test('a pass leaves a stream that is being trimmed for the next one', async () => {
    const { name } = await streamOf(4);
    await publish(db, name, 5, 6);
    await using trimmer = await openClient(db.connectionString);
    await trimmer.query('begin');
    await trimmer.query(...trimTo(name, 5));
    expect(await pass(db)).toMatchObject({ moved: 0, more: true });
    await trimmer.query('commit');
    expect(await pass(db)).toMatchObject({ moved: 2, more: false });
    await purgeAll(db);
    expect(await spanOf(db, name)).toEqual({ start: 4, rows: [5, 6] });
  });

  test('a trim waits for the pass that holds the stream, and takes no more than was there when it was asked', async () => {
    const { name } = await streamOf(4);
    await publish(db, name, 5, 6);
    const moving: [string, unknown[]] = ['select sluice.pass()', []];
    const byCount: [string, unknown[]] = [
      'select oldest::int, removed::int from sluice.trim_stream($1, p_max_count => 1)',
      [name],
    ];
    expect(await whileHeld(moving, byCount)).toEqual({ oldest: 4, removed: 3 });
    expect(await spanOf(db, name)).toEqual({ start: 3, rows: [1, 6] });
  });

  test('of two trims at once each counts what it took, and the later start holds', async () => {
    await purgeAll(db);
    const { name } = await streamOf(9);
    expect(await whileHeld(trimTo(name, 4), trimTo(name, 8))).toEqual({ oldest: 8, removed: 4 });
    expect(await whileHeld(trimTo(name, 10), trimTo(name, 9))).toEqual({ oldest: 10, removed: 0 });
    const { rows } = await db.query(
      'select after_offset::int as a, to_offset::int as b from sluice.purges order by id',
    );
    expect(rows).toEqual([
      { a: 0, b: 3 },
      { a: 3, b: 7 },
      { a: 7, b: 9 },
    ]);
    expect(await purge(db)).toBe(9);
    expect(await spanOf(db, name)).toEqual({ start: 9, rows: null });
  });

  test('a stream that is deleted while a trim waits for it is not found', async () => {
    const { name } = await streamOf(3);
    const deletion: [string, unknown[]] = ['select sluice.delete_stream($1)', [name]];
    await expect(whileHeld(deletion, trimTo(name, 2))).rejects.toMatchObject({ code: 'SL001' });
    await purgeAll(db);
  });
});

describe('I7: the space', () => {
  const left = async (): Promise<number> => (await db.query('select from sluice.purges')).rowCount ?? 0;

  test('comes back in batches over all that is to go, and no row that can be read', async () => {
    await purgeAll(db);
    const [one, two] = [await streamOf(30), await streamOf(30)];
    await one.trim({ before: 11n });
    await two.trim({ before: 31n });
    await one.trim({ before: 21n });
    expect([await purge(db, 15), await purge(db, 20), await purge(db, 100)]).toEqual([15, 20, 15]);
    expect([await purge(db), await left()]).toEqual([0, 0]);
    expect([await spanOf(db, one.name), await spanOf(db, two.name)]).toEqual([
      { start: 20, rows: [21, 30] },
      { start: 30, rows: null },
    ]);
    expect(await logOf(db, one.name)).toHaveLength(10);
  });

  test('a crash between the trim and the removal, and in the middle of it, takes nothing away and forgets nothing', async () => {
    const stream = await streamOf(30);
    await stream.trim({ before: 21n });
    await using crashing = await openClient(db.connectionString);
    const pid = await backendOf(crashing);
    await crashing.query('begin');
    expect(await purge(crashing, 12)).toBe(12);
    await db.query('select pg_terminate_backend($1)', [pid]);
    await until(
      async () => (await db.query('select from pg_stat_activity where pid = $1', [pid])).rowCount === 0,
    );
    expect(await spanOf(db, stream.name)).toEqual({ start: 20, rows: [1, 30] });
    expect([await purge(db, 12), await purge(db, 12), await left()]).toEqual([12, 8, 0]);
    expect(await spanOf(db, stream.name)).toEqual({ start: 20, rows: [21, 30] });
  });

  test('of a stream deleted while it is being freed comes back too, and of the one made anew nothing', async () => {
    const stream = await streamOf(50);
    const id = await idOf(db, stream.name);
    await stream.trim({ before: 31n });
    expect(await purge(db, 10)).toBe(10);
    await sluice.deleteStream(stream.name);
    await stream.append(1);
    expect([await purge(db, 15), await purge(db, 15), await purge(db, 15)]).toEqual([15, 15, 10]);
    expect((await db.query('select from sluice.events where stream_id = $1', [id])).rowCount).toBe(0);
    expect([await purge(db), await left()]).toEqual([0, 0]);
    expect(await offsetsOf(stream, 'start')).toEqual([1]);
  });

  test('behind an open snapshot a batch does not wade through those before it, nor does any reader', async () => {
    const stream = await streamOf(20_000);
    await db.query('vacuum analyze sluice.events');
    await using holder = await openClient(db.connectionString);
    await using client = await openClient(db.connectionString);
    await holder.query('begin isolation level repeatable read');
    await holder.query('select from sluice.migrations');
    await stream.trim({ before: 19_001n });
    const entriesRead = async (statement: string): Promise<number> => {
      const read = `select pg_stat_get_xact_tuples_returned('sluice.events_pkey'::regclass)::int as n`;
      await client.query('begin');
      const before = (await client.query<{ n: number }>(read)).rows[0]!.n;
      await client.query(statement);
      const after = (await client.query<{ n: number }>(read)).rows[0]!.n;
      await client.query('commit');
      return after - before;
    };
    const batches: number[] = [];
    for (let batch = 0; batch < 18; batch += 1) {
      batches.push(await entriesRead('select * from sluice.purge_events(1000)'));
    }
    // A batch reads its own thousand, and no dead one before it.
    expect(batches).toEqual(batches.map(() => 1000));
    const id = await idOf(db, stream.name);
    for (const statement of [
      `select * from sluice.trim_stream('${stream.name}', p_max_age_ms => 0)`,
      `select sluice.offset_before(${id}, 19000, 20000, now())`,
      `select sluice.estimate_bytes(${id}, 19000, 20000)`,
    ]) {
      expect(await entriesRead(statement)).toBeLessThan(1100);
    }
    await holder.query('commit');
    await purgeAll(db);
  });
});
