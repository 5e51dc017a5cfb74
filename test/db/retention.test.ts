// Guards what a stream keeps: bounds that are stored, shown and changed as given; kept in the background by whoever has
// the relay role, never beyond what was promised, also while they are being loosened, by steps that are bounded (I7)
// and cost nothing to the streams that have none.
import { connect, type Sluice, type StreamChanges, type StreamOptions } from 'sluice';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { backendOf, isBlocked } from '../support/log-sql.ts';
import { idOf, purgeAll, retain, retainAll, spanOf } from '../support/retained.ts';
import { randomFrom, withSeed, type Random } from '../support/seed.ts';

const db = useDatabase();
/** Nothing happens in the background here. */
let sluice: Sluice;
beforeAll(async () => {
  const alone = { relay: false, fallbackPollMs: 600_000, appendTimeoutMs: 100 };
  sluice = await connect({ connectionString: db.connectionString, ...alone });
});
afterAll(() => sluice.close());

let names = 0;
const nameNext = (): string => `retained ${(names += 1)}`;
const streamOf = async (options: StreamOptions, sizes: readonly number[]): Promise<string> => {
  const name = nameNext();
  await sluice.createStream(name, options);
  await write(name, sizes);
  return name;
};
/** Events whose data have these sizes, in bytes of JSON. */
const write = async (name: string, sizes: readonly number[]): Promise<void> => {
  const events = sizes.map((size) => ({ data: size === 1 ? 1 : 'x'.repeat(size - 2) }));
  if (events.length > 0) await sluice.stream(name).appendMany(events);
};
const ones = (count: number): number[] => Array.from({ length: count }, () => 1);
const retentionOf = async (name: string): Promise<StreamOptions | undefined> =>
  (await sluice.stream(name).info())?.retention;

describe('bounds', () => {
  test('are given when the stream is made, shown, and changed one by one', async () => {
    const all = { maxAgeMs: 60_000, maxCount: 10, maxBytes: 2 ** 40 };
    expect(await sluice.createStream('bounded', all)).toMatchObject({ retention: all });
    await expect(sluice.createStream('bounded')).rejects.toMatchObject({ code: 'stream_exists' });
    expect(await retentionOf('bounded')).toEqual(all);
    const changed = await sluice.configureStream('bounded', {
      maxAgeMs: 5,
      maxCount: undefined,
      maxBytes: null,
    });
    expect(changed).toMatchObject({ name: 'bounded', retention: { maxAgeMs: 5, maxCount: 10 } });
    await sluice.configureStream('bounded', { maxAgeMs: null, maxCount: null });
    expect(await retentionOf('bounded')).toEqual({});
    for await (const { retention } of sluice.streams({ prefix: 'bounded' })) expect(retention).toEqual({});
    expect(await sluice.createStream('unbounded', { maxCount: undefined })).toMatchObject({ retention: {} });
  });

  type Bad = [string, unknown, typeof TypeError | typeof RangeError, RegExp];
  const bad: Bad[] = [
    ['zero', { maxCount: 0 }, RangeError, /maxCount is 0; give a whole number from 1 to 9007199254740991/],
    ['a negative age', { maxAgeMs: -1 }, RangeError, /maxAgeMs is -1/],
    ['a fraction', { maxBytes: 1.5 }, RangeError, /maxBytes is 1\.5/],
    ['no number', { maxBytes: Number.NaN }, RangeError, /maxBytes is NaN/],
    ['text', { maxAgeMs: '7d' }, RangeError, /maxAgeMs is "7d"/],
    ['too large', { maxCount: 2 ** 53 }, RangeError, /maxCount is 9007199254740992/],
    [
      'an option there is not',
      { maxAge: 5 },
      TypeError,
      /"maxAge" is no option of a stream; there are maxAgeMs/,
    ],
    ['one good, one bad', { maxCount: 5, maxBytes: -5 }, RangeError, /maxBytes is -5/],
  ];
  test.each(bad)('%s is refused, and nothing is made or changed', async (what, options, type, says) => {
    const error = (work: Promise<unknown>): Promise<unknown> => work.catch((thrown: unknown) => thrown);
    const name = await streamOf({ maxCount: 7 }, []);
    for (const refused of [
      await error(sluice.createStream('refused', options as StreamOptions)),
      await error(sluice.configureStream(name, options as StreamChanges)),
    ]) {
      expect(refused).toBeInstanceOf(type);
      expect((refused as Error).message).toMatch(says);
    }
    expect(await sluice.stream('refused').info()).toBeNull();
    expect(await retentionOf(name)).toEqual({ maxCount: 7 });
    const bySql = [name, JSON.stringify(options)];
    if (what === 'no number') return; // JSON has no NaN
    await expect(db.query('select sluice.configure_stream($1, $2)', bySql)).rejects.toMatchObject({
      code: '22023',
    });
  });

  test('of a stream that is not there, or that somebody holds, cannot be changed; nor by nothing', async () => {
    await expect(sluice.configureStream('no such', { maxCount: 1 })).rejects.toMatchObject({
      code: 'stream_not_found',
    });
    const name = await streamOf({ maxCount: 7 }, [1]);
    await expect(sluice.configureStream(name, {})).rejects.toThrow(
      /nothing says what to change; give maxAgeMs/,
    );
    await using holder = await openClient(db.connectionString);
    await holder.query('begin');
    await holder.query(`select sluice.append($1, '2')`, [name]);
    await expect(sluice.configureStream(name, { maxCount: 1 })).rejects.toMatchObject({ code: 'overloaded' });
    await holder.query('commit');
    expect(await retentionOf(name)).toEqual({ maxCount: 7 });
  });
});

describe('what is kept', () => {
  test('the newest maxCount events', async () => {
    const name = await streamOf({ maxCount: 4 }, ones(3));
    const id = await idOf(db, name);
    expect(await retain(db, id)).toEqual({ removed: 0, more: false });
    await write(name, ones(6));
    expect(await retain(db, id)).toEqual({ removed: 5, more: false });
    expect(await retain(db, id)).toEqual({ removed: 0, more: false });
    expect(await sluice.stream(name).info()).toMatchObject({ head: 9n, oldest: 6n, count: 4n });
  });

  test('events up to maxAgeMs old, and none younger goes', async () => {
    const name = await streamOf({ maxAgeMs: 3_600_000 }, ones(1000));
    const id = await idOf(db, name);
    // One a minute, the last one now.
    await db.query(
      `update sluice.events set at = clock_timestamp() - (1000 - "offset") * interval '1 minute' where stream_id = $1`,
      [id],
    );
    const { removed } = await retain(db, id);
    expect(removed).toBe(940);
    expect(await spanOf(db, name)).toMatchObject({ start: 940 });
    await db.query(`update sluice.events set at = '2000-01-01' where stream_id = $1`, [id]);
    expect(await retain(db, id)).toEqual({ removed: 60, more: false });
    expect(await sluice.stream(name).append(1)).toMatchObject({ offset: 1001n });
  });

  test('of several bounds, what none of them takes', async () => {
    const name = await streamOf(
      { maxCount: 8, maxBytes: 30 },
      Array.from({ length: 10 }, () => 10),
    );
    await retainAll(db, await idOf(db, name));
    expect(await spanOf(db, name)).toMatchObject({ start: 7 });
    await sluice.configureStream(name, { maxCount: 2 });
    await retainAll(db, await idOf(db, name));
    expect(await spanOf(db, name)).toMatchObject({ start: 8 });
  });

  /** How many of the oldest may go: those that all after them together outweigh the bound without. */
  const spared = (sizes: readonly number[], maxBytes: number): number => {
    let bytes = 0;
    for (let kept = sizes.length; kept > 0; kept -= 1) {
      if (bytes >= maxBytes) return kept;
      bytes += sizes[kept - 1]!;
    }
    return 0;
  };

  test('maxBytes: the newest events that have as much, exactly, and the newest one always', async () => {
    for (const [maxBytes, sizes, gone] of [
      [30, [10, 10, 10], 0],
      [30, [1, 10, 10, 10], 1],
      [30, [10, 10, 10, 9], 0],
      [30, [10, 10, 10, 500], 3],
      [1, [9, 9, 9], 2],
    ] as const) {
      const name = await streamOf({ maxBytes }, sizes);
      expect(spared(sizes, maxBytes)).toBe(gone);
      expect(await retainAll(db, await idOf(db, name))).toBe(gone);
    }
  });

  test('a window whose rows are not all there any more says nothing: they may go while it is weighed', async () => {
    const name = await streamOf(
      { maxBytes: 100 },
      Array.from({ length: 20 }, () => 10),
    );
    const id = await idOf(db, name);
    const cutOf = async (floor: number): Promise<unknown> => {
      const window =
        'insert into sluice.weights (stream_id, from_offset, to_offset, bytes) values ($1, 0, 20, 200)';
      await db.query(
        `${window} on conflict (stream_id) do update set from_offset = 0, to_offset = 20, bytes = 200`,
        [id],
      );
      const { rows } = await db.query('select cut::int from sluice.weigh_stream($1, $2, 20, 100, 1000)', [
        id,
        floor,
      ]);
      return rows[0]!['cut'];
    };
    expect([await cutOf(0), await cutOf(5)]).toEqual([10, 10]);
    await db.query('delete from sluice.events where stream_id = $1 and "offset" <= 5', [id]);
    expect([await cutOf(0), await cutOf(5)]).toEqual([0, null]);
  });

  test('I7: maxBytes is found by bounded steps, whatever is written, trimmed and changed between them', () =>
    withSeed(async (seed) => {
      const random = randomFrom(seed);
      const sizes: number[] = [];
      let maxBytes = 400;
      const name = await streamOf({ maxBytes }, []);
      const id = await idOf(db, name);
      let start = 0;
      const actions: ((random: Random) => Promise<void>)[] = [
        async () => {
          const more = Array.from({ length: 1 + random.below(40) }, () => 2 + random.below(60));
          await write(name, more);
          sizes.push(...more);
        },
        async () => {
          const { removed } = await retain(db, id, random.pick([2, 20, 500, 500]));
          start += removed;
          expect(start).toBeLessThanOrEqual(Math.max(spared(sizes, maxBytes), start - removed));
        },
        async () => {
          const before = start + 1 + random.below(Math.min(sizes.length - start + 1, 30));
          if (random.chance(0.5))
            start += Number((await sluice.stream(name).trim({ before: BigInt(before) })).removed);
        },
        async () => {
          maxBytes = 1 + random.below(2000);
          await sluice.configureStream(name, { maxBytes, maxCount: random.chance(0.5) ? null : 2000 });
        },
        () => purgeAll(db),
      ];
      for (let step = 0; step < 150; step += 1) await random.pick(actions)(random);
      start += await retainAll(db, id, 7);
      expect(start).toBeGreaterThanOrEqual(spared(sizes, maxBytes));
      expect(await spanOf(db, name)).toMatchObject({ start });
      // Settled: what nobody may read is gone, and what is kept is enough.
      const kept = sizes.slice(start).reduce((sum, size) => sum + size, 0);
      if (start > 0) expect(kept - (sizes[start] ?? 0)).toBeLessThan(maxBytes);
      expect(await retain(db, id)).toEqual({ removed: 0, more: false });
    }));
});

describe('who comes in between', () => {
  test('a bound that was loosened before the stream could be locked trims nothing', async () => {
    for (const [tight, loose] of [
      [{ maxCount: 1 }, { maxCount: 100 }],
      [{ maxAgeMs: 1 }, { maxAgeMs: null }],
      [{ maxBytes: 1 }, { maxBytes: 1000 }],
    ] as const) {
      const name = await streamOf(tight, ones(20));
      const id = await idOf(db, name);
      await using holder = await openClient(db.connectionString);
      await using retainer = await openClient(db.connectionString);
      await holder.query('begin');
      await holder.query('select sluice.configure_stream($1, $2)', [name, JSON.stringify(loose)]);
      const pid = await backendOf(retainer);
      const retaining = retainAll(retainer, id);
      await until(() => isBlocked(db, pid));
      await holder.query('commit');
      expect(await retaining).toBe(0);
      expect(await spanOf(db, name)).toEqual({ start: 0, rows: [1, 20] });
    }
  });

  test('an append that waits for it gets the next offset', async () => {
    const name = await streamOf({ maxAgeMs: 1 }, ones(5));
    await db.query(`update sluice.events set at = '2000-01-01' where stream_id = $1`, [await idOf(db, name)]);
    await using retainer = await openClient(db.connectionString);
    await using writer = await openClient(db.connectionString);
    await retainer.query('begin');
    expect(await retain(retainer, await idOf(db, name))).toMatchObject({ removed: 5 });
    const pid = await backendOf(writer);
    const appended = writer.query(`select sluice.append($1, '6')::int as "offset"`, [name]);
    await until(() => isBlocked(db, pid));
    await retainer.query('commit');
    expect((await appended).rows).toEqual([{ offset: 6 }]);
  });

  test('a stream that is gone is nothing to do, and neither are its weights', async () => {
    const name = await streamOf({ maxBytes: 1 }, ones(5));
    const id = await idOf(db, name);
    await retainAll(db, id);
    await sluice.deleteStream(name);
    expect(await retain(db, id)).toEqual({ removed: 0, more: false });
    await purgeAll(db);
    expect((await db.query('select from sluice.weights where stream_id = $1', [id])).rowCount).toBe(0);
  });
});

describe('in the background', () => {
  interface Enforced {
    readonly trimmed: number;
    readonly removed: number;
    readonly held: number;
  }
  const background = (): Promise<Sluice> =>
    connect({ connectionString: db.connectionString, retentionIntervalMs: 10, fallbackPollMs: 50 });
  const round = (predicate: (round: Enforced) => boolean = () => true): Promise<Enforced> =>
    nextMessage('sluice:retention.enforced', predicate);
  /** Two rounds ended since: one of them began since. */
  const aRound = async (): Promise<void> => {
    await round();
    await round();
  };
  const nothingLeft = async (): Promise<boolean> =>
    (await db.query('select from sluice.purges limit 1')).rowCount === 0;

  test('streams stay within their bounds while they are written, readers at the head miss nothing, and the space comes back', async () => {
    const counted = await streamOf({ maxCount: 10 }, []);
    const heavy = await streamOf({ maxBytes: 300 }, []);
    const free = await streamOf({}, []);
    await using keeper = await background();
    const seen: bigint[] = [];
    const reading = (async () => {
      for await (const { offset } of keeper.stream(counted).subscribe({ after: 'start' })) {
        seen.push(offset);
        if (offset === 400n) break;
      }
    })();
    for (let n = 0; n < 40; n += 1) {
      for (const name of [counted, heavy, free])
        await write(
          name,
          Array.from({ length: 10 }, () => 30),
        );
      await until(() => (seen.at(-1) ?? 0n) === BigInt(10 * (n + 1)));
    }
    await reading;
    expect(seen).toEqual(Array.from({ length: 400 }, (_, n) => BigInt(n + 1)));
    await until(async () => (await spanOf(db, counted)).start === 390);
    await until(async () => (await spanOf(db, heavy)).start === 390);
    await until(nothingLeft);
    expect(await spanOf(db, counted)).toEqual({ start: 390, rows: [391, 400] });
    expect(await spanOf(db, heavy)).toEqual({ start: 390, rows: [391, 400] });
    expect(await spanOf(db, free)).toEqual({ start: 0, rows: [1, 400] });
    await keeper.close();
  });

  test('a stream that somebody holds is left for the next round, and delays no other', async () => {
    const held = await streamOf({ maxCount: 1 }, ones(5));
    const other = await streamOf({ maxCount: 1 }, ones(5));
    await using holder = await openClient(db.connectionString);
    await holder.query('begin');
    await holder.query('select from sluice.streams where name = $1 for no key update', [held]);
    const left = round(({ held: count }) => count === 1);
    await using keeper = await background();
    await left;
    await until(async () => (await spanOf(db, other)).start === 4);
    expect(await spanOf(db, held)).toEqual({ start: 0, rows: [1, 5] });
    await holder.query('commit');
    await until(async () => (await spanOf(db, held)).start === 4);
    await keeper.close();
  });

  test('what one process began the next one goes on with, and a failure is reported and tried again', async () => {
    const name = await streamOf({}, ones(30));
    await sluice.stream(name).trim({ before: 21n });
    await db.query(`alter function sluice.retain_stream rename to retain_stream_away`);
    const bounded = await streamOf({ maxCount: 1 }, ones(3));
    const failed = nextMessage<{ where: string }>('sluice:background.failed', ({ where }) =>
      /retention/.test(where),
    );
    await using keeper = await background();
    expect(await failed).toMatchObject({ where: 'retention of a stream' });
    await until(async () => (await spanOf(db, name)).rows?.[0] === 21); // what has nothing to do with it goes on
    await db.query(`alter function sluice.retain_stream_away rename to retain_stream`);
    await until(async () => (await spanOf(db, bounded)).start === 2);
    await keeper.close();
  });

  test('without the relay role nothing is enforced: one process is enough', async () => {
    const name = await streamOf({ maxCount: 1 }, ones(5));
    await using bystander = await connect({
      connectionString: db.connectionString,
      relay: false,
      retentionIntervalMs: 10,
      fallbackPollMs: 10,
    });
    const polled = (): Promise<unknown> => nextMessage('sluice:poll.finished');
    for (let polls = 0; polls < 5; polls += 1) await polled();
    expect(await spanOf(db, name)).toEqual({ start: 0, rows: [1, 5] });
    await bystander.close();
  });

  test('I7: among 5 000 streams without bounds, those with one are found by an index of their own', async () => {
    await db.query(`insert into sluice.streams (name) select 'crowd ' || n from generate_series(1, 5000) n`);
    await db.query('analyze sluice.streams');
    const read = `select coalesce(seq_tup_read + idx_tup_fetch, 0)::int as n from pg_stat_user_tables
      where schemaname = 'sluice' and relname = 'streams'`;
    const reads = async (): Promise<number> => (await db.query<{ n: number }>(read)).rows[0]!.n;
    const bounded = (await db.query('select from sluice.streams where max_count is not null')).rowCount ?? 0;
    expect(bounded).toBeGreaterThan(0);
    const before = await reads();
    await using keeper = await background();
    for (let n = 0; n < 5; n += 1) await aRound();
    await keeper.close();
    // Sessions send their counts when they end.
    await until(async () => (await reads()) > before);
    expect((await reads()) - before).toBeLessThan(5000);
  });
});
