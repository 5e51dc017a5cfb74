// Guards what is told of a stream and of many: counts that are exact, sizes and rates that are close, at a cost that does
// not grow with what the stream holds; and lists by prefix that look at nothing but what they list (I7).
import { types } from 'pg';
import { connect, type Sluice } from 'sluice';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { idOf } from '../support/retained.ts';

const db = useDatabase();
let sluice: Sluice;
beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString, relay: false, fallbackPollMs: 600_000 });
});
afterAll(() => sluice.close());

/** A stream with `count` events, each so many seconds after the one before, the last one now; sizes by offset. */
const streamOf = async (name: string, count: number, options: { seconds?: number; size?: string } = {}) => {
  const { seconds = 0, size = '100' } = options;
  await sluice.createStream(name);
  await db.query(
    `insert into sluice.events (stream_id, "offset", at, tag, size, data)
     select $1, n, clock_timestamp() - ($2 - n) * $3::float8 * interval '1 second', n, ${size}, '1'
     from generate_series(1, $2::integer) n`,
    [await idOf(db, name), count, seconds],
  );
  return sluice.stream(name);
};

/**
 * How many entries of a table's or index's scans a session reads for `work`, with everything that the functions it calls
 * read. The work gets a Sluice whose statements run on that one session.
 */
const entriesRead = async (relation: string, work: (sluice: Sluice) => Promise<void>): Promise<number> => {
  const client = await db.pool.connect();
  const pool = Object.assign(Object.create(db.pool) as typeof db.pool, { query: client.query.bind(client) });
  const options = { connectionString: db.connectionString, relay: false, fallbackPollMs: 600_000 };
  const own = await connect({ ...options, pool });
  const read = async (): Promise<number> => {
    const { rows } = await client.query<{ n: number }>(
      'select pg_stat_get_xact_tuples_returned($1::regclass)::int as n',
      [relation],
    );
    return rows[0]!.n;
  };
  try {
    await client.query('begin');
    const before = await read();
    await work(own);
    const after = await read();
    await client.query('commit');
    return after - before;
  } finally {
    await own.close();
    client.release();
  }
};

describe('one stream', () => {
  test('count is exact, whatever was trimmed, and bytes too, up to a thousand events', async () => {
    const stream = await streamOf('counted', 1500, { size: 'n' });
    await stream.trim({ maxCount: 1000 });
    const bytes = BigInt(((501 + 1500) * 1000) / 2);
    expect(await stream.info()).toMatchObject({ head: 1500n, oldest: 501n, count: 1000n, bytes });
    await stream.trim({ maxCount: 0 });
    expect(await stream.info()).toMatchObject({
      head: 1500n,
      oldest: 1501n,
      count: 0n,
      bytes: 0n,
      rates: { lastMinute: 0, lastHour: 0 },
    });
  });

  test.each([
    ['equal sizes', '100'],
    ['every second one large', 'case n % 2 when 0 then 10 else 190 end'],
    ['sizes that repeat in step with the sample', 'case n % 100 when 0 then 5000 else 50 end'],
    ['sizes that grow', '1 + n / 100'],
  ])('bytes are close, of the same order at least: %s', async (name, size) => {
    const stream = await streamOf(`bytes ${name}`, 20_000, { size });
    const { rows } = await db.query<{ sum: string }>(
      'select sum(size) from sluice.events where stream_id = $1',
      [await idOf(db, stream.name)],
    );
    const { bytes } = (await stream.info())!;
    expect(Number(bytes) / Number(rows[0]!.sum)).toBeGreaterThan(0.5);
    expect(Number(bytes) / Number(rows[0]!.sum)).toBeLessThan(2);
    expect((await stream.info())!.bytes).toBe(bytes); // the same each time, while nothing changes
  });

  test('rates are events per second over the time asked for, or over what is kept of it', async () => {
    const steady = await streamOf('steady', 2000, { seconds: 0.5 });
    const { lastMinute, lastHour } = (await steady.info())!.rates;
    expect(lastMinute).toBeGreaterThan(1.5);
    expect(lastMinute).toBeLessThan(2.5);
    expect(lastHour).toBeCloseTo(2000 / 3600, 5);
    await steady.trim({ maxCount: 40 }); // of 20 seconds
    const kept = (await steady.info())!.rates;
    for (const rate of [kept.lastMinute, kept.lastHour]) {
      expect(rate).toBeGreaterThan(0.2); // this machine may be slow, so that the twenty seconds become more
      expect(rate).toBeLessThan(2.5);
    }
    await steady.trim({ maxCount: 1 });
    expect((await steady.info())!.rates).toEqual({ lastMinute: 0, lastHour: 0 });
    const old = await streamOf('long ago', 10, { seconds: 10_000 });
    expect((await old.info())!.rates).toEqual({ lastMinute: 1 / 60, lastHour: 1 / 3600 });
  });

  test('I7: a stream of 100 000 events is described by a few hundred rows', async () => {
    await streamOf('long', 100_000, { seconds: 0.1 });
    const entries = await entriesRead('sluice.events_pkey', async (own) => {
      expect(await own.stream('long').info()).toMatchObject({ count: 100_000n });
    });
    expect(entries).toBeLessThan(400);
  });
});

describe('many', () => {
  const namesWith = async (prefix: string): Promise<string[]> => {
    const names: string[] = [];
    for await (const { name } of sluice.streams({ prefix })) names.push(name);
    return names;
  };

  test('each with its counts and what it keeps', async () => {
    await sluice.createStream('listed/a', { maxCount: 3 });
    await sluice.stream('listed/a').appendMany([1, 2, 3, 4].map((data) => ({ data })));
    await sluice.stream('listed/a').trim({ before: 3n });
    await sluice.createStream('listed/b', { maxAgeMs: 1000, maxBytes: 5 });
    const listed = [];
    for await (const info of sluice.streams({ prefix: 'listed/' })) listed.push(info);
    const createdAt = expect.any(Date) as Date;
    const common = { createdAt, closed: false, idempotencyWindowMs: 86_400_000 };
    expect(listed).toEqual([
      { name: 'listed/a', head: 4n, oldest: 3n, count: 2n, retention: { maxCount: 3 }, ...common },
      {
        name: 'listed/b',
        head: 0n,
        oldest: 1n,
        count: 0n,
        retention: { maxAgeMs: 1000, maxBytes: 5 },
        ...common,
      },
    ]);
  });

  test('a prefix of any characters, up to the longest name there can be', async () => {
    const odd = ['%', '_', '\\', "'", '"', 'é', '🧾', '\u{10ffff}', '\ud7ff', '\ue000'];
    const names = odd.flatMap((each) => [`odd ${each}`, `odd ${each}x`, `odd ${each}${each}`]);
    const longest = `odd ${'🧾'.repeat(127)}`;
    for (const name of [...names, longest]) await sluice.createStream(name);
    expect(Buffer.byteLength(longest)).toBe(512);
    for (const each of odd.filter((one) => one !== '🧾')) {
      expect((await namesWith(`odd ${each}`)).toSorted()).toEqual(
        [`odd ${each}`, `odd ${each}x`, `odd ${each}${each}`].toSorted(),
      );
    }
    expect(await namesWith(longest)).toEqual([longest]);
    expect(await namesWith('odd 🧾')).toHaveLength(4);
    for (const prefix of ['a\0', 'line\nend', '\ud800', 'x'.repeat(513), 7 as unknown as string]) {
      await expect(namesWith(prefix)).rejects.toMatchObject({ code: 'name_invalid' });
    }
  });

  test('I7: a prefix looks at no stream beyond those that have it', async () => {
    await db.query(`insert into sluice.streams (name) select 'm' || n from generate_series(1, 20000) n`);
    await db.query('analyze sluice.streams');
    for (const [prefix, listed] of [
      ['listed/', 2],
      ['m1999', 11],
      ['a', 0],
    ] as const) {
      let count = 0;
      const list = async (own: Sluice): Promise<void> => {
        for await (const _ of own.streams({ prefix })) count += 1;
      };
      // With what the planner looks up to make its plan.
      for (const relation of ['sluice.streams_name', 'sluice.streams']) {
        expect(await entriesRead(relation, list)).toBeLessThan(20);
      }
      expect(count).toBe(2 * listed);
    }
  });
});

describe('times', () => {
  const TIMESTAMPTZ = types.builtins.TIMESTAMPTZ;
  const told = async (): Promise<number[]> => {
    await using own = await connect({ connectionString: db.connectionString, relay: false });
    const { createdAt } = await own.createStream('timed');
    const times: unknown[] = [createdAt];
    for await (const stream of own.streams({ prefix: 'timed' })) times.push(stream.createdAt);
    for await (const { publishedAt } of own.undeliverable()) times.push(publishedAt);
    await own.deleteStream('timed');
    for (const at of times) expect(at).toBeInstanceOf(Date);
    return times.map(Number);
  };
  const expectNow = async (since: number): Promise<void> => {
    const times = await told();
    expect(times).toHaveLength(3);
    for (const at of times) {
      expect(at).toBeGreaterThan(since - 1000);
      expect(at).toBeLessThan(Date.now() + 1000);
    }
  };
  let since: number;
  beforeAll(async () => {
    since = Date.now();
    await db.query(
      `insert into sluice.undeliverable (reason, published_at, stream_id, stream, data)
       values ('stream_closed', clock_timestamp(), 1, 'gone', '1')`,
    );
  });

  test('are dates, whatever style the session writes them in', async () => {
    const name = new URL(db.connectionString).pathname.slice(1);
    await db.query(`alter database ${name} set datestyle = 'German, DMY'`);
    try {
      await expectNow(since);
    } finally {
      await db.query(`alter database ${name} reset datestyle`);
    }
  });

  test('are dates, whatever the program makes of those in its own rows', async () => {
    const parser = types.getTypeParser(TIMESTAMPTZ);
    types.setTypeParser(TIMESTAMPTZ, (text) => text);
    try {
      await expectNow(since);
    } finally {
      types.setTypeParser(TIMESTAMPTZ, parser);
    }
  });
});
