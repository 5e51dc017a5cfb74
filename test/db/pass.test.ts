// Guards the move from the outbox into logs: races over the same rows, order, cuts, and what cannot be delivered. The
// number after "interleaving" is that of the list of what breaks plausible versions of this.
import { beforeAll, describe, expect, test } from 'vitest';
import { openClient } from '../support/client.ts';
import { useDatabase, type Database } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';
import { randomFrom, withSeed, type Random } from '../support/seed.ts';
import { filesUnder } from '../support/tidy/files.ts';

const db = useDatabase();

type Executor = Pick<Database, 'query'>;

const publish = async (on: Executor, stream: string, value: unknown): Promise<void> => {
  await on.query('select sluice.publish($1, $2)', [stream, JSON.stringify(value)]);
};

interface Passed {
  readonly moved: number;
  readonly refused: number;
  readonly more: boolean;
  readonly next: string;
}

interface PassOptions {
  readonly limit?: number;
  readonly maxStreams?: number;
  readonly after?: string;
}

const pass = async (
  on: Executor = db,
  { limit = 10_000, maxStreams = 1000, after = '' }: PassOptions = {},
): Promise<Passed> => {
  const { rows } = await on.query<Passed>(
    `select moved::integer, refused::integer, more, next_after as next from sluice.pass($1, $2, $3)`,
    [limit, maxStreams, after],
  );
  return rows[0]!;
};

/** The values in a stream by offset, which must be 1, 2, 3 … */
const valuesIn = async (stream: string): Promise<unknown[]> => {
  const { rows } = await db.query<{ offset: number; data: unknown }>(
    `select e."offset"::integer, e.data from sluice.events e join sluice.streams s on s.id = e.stream_id
     where s.name = $1 order by e."offset"`,
    [stream],
  );
  expect(rows.map(({ offset }) => offset)).toEqual(rows.map((_, index) => index + 1));
  return rows.map(({ data }) => data);
};

/** Until a session waits for a lock. */
const someoneWaits = (): Promise<void> =>
  until(async () => (await db.query('select from pg_locks where not granted')).rowCount !== 0);

test('interleaving 1: a stream that another pass holds is skipped, stays pending, and is told as more', async () => {
  for (const value of [1, 2, 3]) await publish(db, 'raced', value);
  await using other = await openClient(db.connectionString);
  await other.query('begin');
  expect(await pass(other)).toMatchObject({ moved: 3, more: false });
  await publish(db, 'raced', 4);
  await publish(db, 'beside', 1);
  // 'raced' exists only in the open transaction, then it is locked there: skipped either way.
  expect(await pass()).toMatchObject({ moved: 1, more: true });
  await other.query('commit');
  await other.query('begin');
  await publish(db, 'raced', 5);
  expect(await pass(other)).toMatchObject({ moved: 2, more: false });
  await publish(db, 'raced', 6);
  expect(await pass()).toMatchObject({ moved: 0, more: true });
  await other.query('rollback');
  expect(await pass()).toMatchObject({ moved: 3, more: false });
  expect(await pass()).toMatchObject({ moved: 0, more: false });
  expect(await valuesIn('raced')).toEqual([1, 2, 3, 4, 5, 6]);
});

test('interleaving 1: what another pass moved between the look for dirty streams and the lock is not moved again', async () => {
  await using creator = await openClient(db.connectionString);
  await using slow = await openClient(db.connectionString);
  await publish(db, 'a raced', 1);
  await pass();
  for (const value of [2, 3]) await publish(db, 'a raced', value);
  await publish(db, 'b unborn', 1);
  await creator.query('begin');
  await creator.query(`insert into sluice.streams (name) values ('b unborn')`);
  const slowly = pass(slow); // has seen both streams dirty, and waits before it locks any
  await someoneWaits();
  expect(await pass(db, { maxStreams: 1 })).toMatchObject({ moved: 2, more: true });
  await db.query(`select sluice.append('a raced', '4')`);
  await publish(db, 'a raced', 5);
  await creator.query('commit');
  expect(await slowly).toMatchObject({ moved: 2, more: false });
  expect(await valuesIn('a raced')).toEqual([1, 2, 3, 4, 5]);
});

test('interleaving 1: many passes, publishers and appenders at once double and lose nothing', async () => {
  const publishers = [0, 1, 2, 3];
  const done = new AbortController();
  const passing = [1, 2, 3].map(async () => {
    while (!done.signal.aborted) await pass();
  });
  await Promise.all(
    publishers.map(async (publisher) => {
      await using client = await openClient(db.connectionString);
      for (let n = 0; n < 60; n += 1) {
        await publish(client, `crowded ${n % 2}`, [publisher, n]);
        if (n % 5 === 0)
          await client.query('select sluice.append($1, $2)', ['crowded 2', `[${publisher}, ${n}]`]);
      }
    }),
  );
  done.abort();
  await Promise.all(passing);
  await pass();
  for (const stream of [0, 1, 2]) {
    const values = (await valuesIn(`crowded ${stream}`)) as [number, number][];
    for (const publisher of publishers) {
      const own = values.filter(([of]) => of === publisher).map(([, n]) => n);
      const sent = Array.from({ length: 60 }, (_, n) => n);
      expect(own).toEqual(sent.filter((n) => (stream === 2 ? n % 5 === 0 : n % 2 === stream)));
    }
  }
});

describe('interleaving 2: a session that waited for a stream counts on from what it waited for', () => {
  const batch = (stream: string): string =>
    `select first_offset::integer as offset from sluice.append_batch(array['${stream}'], array[1], '3', array[0], p_wait_ms => null)`;
  test.each([
    ['append_batch', batch('stale append_batch')],
    ['append', `select sluice.append('stale append', '3')::integer as offset`],
    ['close_stream', `select sluice.close_stream('stale close_stream')`],
  ])('%s', async (name, statement) => {
    const stream = `stale ${name}`;
    await db.query('select sluice.append($1, $2)', [stream, '1']);
    await using holder = await openClient(db.connectionString);
    await holder.query('begin');
    await holder.query('select sluice.append($1, $2)', [stream, '2']);
    if (name === 'close_stream') await publish(db, stream, 3);
    const waiting = db.query<{ offset?: number }>(statement);
    await someoneWaits();
    await holder.query('commit');
    const { rows } = await waiting;
    if (name !== 'close_stream') expect(rows[0]).toEqual({ offset: 3 });
    expect(await valuesIn(stream)).toEqual([1, 2, 3]);
  });

  test.each(['repeatable read', 'serializable'])(
    'at %s, where it could not, it is refused',
    async (level) => {
      await publish(db, 'refused level', 1);
      for (const statement of [
        'select sluice.pass()',
        batch('refused level'),
        `select sluice.append('refused level', '3')`,
        `select sluice.close_stream('refused level')`,
        'select sluice.rotate_outbox()',
      ]) {
        await using client = await openClient(db.connectionString);
        await client.query(`begin isolation level ${level}`);
        await expect(client.query(statement)).rejects.toMatchObject({ code: 'SL006' });
      }
      await using publisher = await openClient(db.connectionString);
      await publisher.query(`begin isolation level ${level}`);
      await publish(publisher, 'refused level', 2);
      await publisher.query('commit');
    },
  );
});

describe('interleaving 3: the transaction that gives offsets is flushed, whatever the session says', () => {
  const withPending = (call: string) => async (client: Executor) => {
    await publish(db, 'flushed', 1);
    await client.query(call);
  };
  test.each([
    ['pass', withPending('select sluice.pass()')],
    ['append', withPending(`select sluice.append('flushed', '1')`)],
    ['append_batch', withPending(`select sluice.append_batch(array['flushed'], array[1], '1', array[0])`)],
    [
      'close_stream',
      async (client: Executor) => {
        await publish(db, 'flushed and closed', 1);
        await pass();
        await publish(db, 'flushed and closed', 2);
        await client.query(`select sluice.close_stream('flushed and closed')`);
        await client.query(`update sluice.streams set closed_at = null where name = 'flushed and closed'`);
      },
    ],
  ])('%s', async (_, call) => {
    await using client = await openClient(db.connectionString);
    for (const [set, expected] of [
      ['off', 'on'],
      ['local', 'on'],
      ['on', 'on'],
      ['remote_write', 'remote_write'],
      ['remote_apply', 'remote_apply'],
    ] as const) {
      await client.query(`set synchronous_commit = ${set}`);
      await client.query('begin');
      await call(client);
      expect((await client.query('show synchronous_commit')).rows).toEqual([
        { synchronous_commit: expected },
      ]);
      await client.query('commit');
      expect((await client.query('show synchronous_commit')).rows).toEqual([{ synchronous_commit: set }]);
    }
  });

  test('publishing leaves that to its transaction', async () => {
    await using client = await openClient(db.connectionString);
    await client.query('set synchronous_commit = off');
    await client.query('begin');
    await publish(client, 'flushed', 1);
    expect((await client.query('show synchronous_commit')).rows).toEqual([{ synchronous_commit: 'off' }]);
    await client.query('rollback');
  });
});

describe('interleaving 10: what cannot be delivered is listed with its reason', () => {
  /** What is listed for a stream, by value. */
  const undeliverable = async (stream: string): Promise<unknown[]> => {
    const { rows } = await db.query<{ reason: string; data: unknown }>(
      `select reason, data from sluice.undeliverable where stream = $1 order by id`,
      [stream],
    );
    return rows.map(({ reason, data }) => [reason, data]);
  };

  beforeAll(async () => {
    await pass();
  });

  test('closed: what is committed goes in first, what commits later is listed', async () => {
    await db.query(`select sluice.create_stream('closed')`);
    await using late = await openClient(db.connectionString);
    await late.query('begin');
    await publish(late, 'closed', 'late 1');
    await publish(late, 'closed', 'late 2');
    await publish(db, 'closed', 'in time');
    await db.query(`select sluice.close_stream('closed')`);
    await late.query('commit');
    await publish(db, 'not closed', 1);
    expect(await pass()).toEqual({ moved: 1, refused: 2, more: false, next: '' });
    expect(await pass()).toEqual({ moved: 0, refused: 0, more: false, next: '' });
    expect(await valuesIn('closed')).toEqual(['in time']);
    expect(await undeliverable('closed')).toEqual([
      ['stream_closed', 'late 1'],
      ['stream_closed', 'late 2'],
    ]);
    await expect(publish(db, 'closed', 'too late')).rejects.toMatchObject({ code: 'SL003' });
    const append = db.query(`select sluice.append('closed', '1')`);
    await expect(append).rejects.toMatchObject({ code: 'SL003' });
  });

  test('deleted: no stream comes back for it', async () => {
    await db.query(`select sluice.create_stream('deleted')`);
    await using late = await openClient(db.connectionString);
    await late.query('begin');
    await publish(late, 'deleted', 'late');
    await publish(db, 'deleted', 'pending');
    await db.query(`select sluice.delete_stream('deleted')`);
    await late.query('commit');
    expect(await pass()).toMatchObject({ moved: 0, refused: 2 });
    expect(await pass()).toMatchObject({ moved: 0, refused: 0, more: false });
    expect(await undeliverable('deleted')).toEqual([
      ['stream_deleted', 'late'],
      ['stream_deleted', 'pending'],
    ]);
    expect((await db.query(`select from sluice.streams where name = 'deleted'`)).rowCount).toBe(0);
  });

  test('deleted and created again: nothing for one incarnation lands in another', async () => {
    await db.query(`select sluice.create_stream('again')`);
    await publish(db, 'again', 'for the first');
    await db.query(`select sluice.delete_stream('again')`);
    await db.query(`select sluice.create_stream('again')`);
    await publish(db, 'again', 'for the second');
    expect(await pass()).toMatchObject({ moved: 1, refused: 1, more: false });
    expect(await valuesIn('again')).toEqual(['for the second']);
    expect(await undeliverable('again')).toEqual([['stream_deleted', 'for the first']]);
  });

  test('deleted, and published to by name since: the name makes a new stream', async () => {
    await db.query(`select sluice.create_stream('reborn')`);
    await publish(db, 'reborn', 'for the first');
    await db.query(`select sluice.delete_stream('reborn')`);
    await publish(db, 'reborn', 'by name');
    expect(await pass()).toMatchObject({ moved: 1, refused: 1, more: false });
    expect(await valuesIn('reborn')).toEqual(['by name']);
  });

  test('published by name before there was a stream: it is delivered to whatever has the name then', async () => {
    await publish(db, 'by name', 1);
    await db.query(`select sluice.create_stream('by name')`);
    await publish(db, 'by name', 2);
    await publish(db, 'by name and closed', 1);
    await db.query(`select sluice.create_stream('by name and closed')`);
    await db.query(`update sluice.streams set closed_at = now() where name = 'by name and closed'`);
    expect(await pass()).toMatchObject({ moved: 2, refused: 1, more: false });
    expect(await valuesIn('by name')).toEqual([1, 2]);
    expect(await undeliverable('by name and closed')).toEqual([['stream_closed', 1]]);
  });
});

/** Runs move_pending as its callers do: under the stream's lock, taken in a statement before. */
const move = async (stream: string, limit: number | null): Promise<{ moved: number; more: boolean }> => {
  await using client = await openClient(db.connectionString);
  await client.query('begin');
  await client.query('select from sluice.streams where name = $1 for no key update', [stream]);
  const { rows } = await client.query<{ moved: number; more: boolean }>(
    `select moved::integer, more
     from sluice.move_pending(array(select id from sluice.streams where name = $1), $2)`,
    [stream, limit],
  );
  await client.query('commit');
  return rows[0]!;
};

/** Publishes the same to every stream, from transactions that begin, publish and end in a random order. */
const publishInterleaved = async (random: Random, streams: readonly string[]): Promise<void> => {
  const clients = await Promise.all(Array.from({ length: 5 }, () => openClient(db.connectionString)));
  const open = new Map<number, { readonly transaction: number; next: number }>();
  try {
    for (let step = 0, transactions = 0; step < 250; step += 1) {
      const who = random.below(clients.length);
      const client = clients[who]!;
      let own = open.get(who);
      if (own === undefined) {
        own = { transaction: (transactions += 1), next: 0 };
        open.set(who, own);
        await client.query('begin');
      } else if (random.chance(0.15)) {
        await client.query(random.chance(0.2) ? 'rollback' : 'commit');
        open.delete(who);
        continue;
      }
      for (const stream of streams) await publish(client, stream, [own.transaction, own.next]);
      own.next += 1;
    }
    for (const who of open.keys()) await clients[who]!.query('commit');
  } finally {
    await Promise.all(clients.map((client) => client.end()));
  }
};

test('I1 I3: a backlog moved in small pieces comes out in the order of one move, and no transaction is cut', () =>
  withSeed(async (seed) => {
    const random = randomFrom(seed);
    await db.query(`select sluice.create_stream('at once'), sluice.create_stream('in pieces')`);
    await publishInterleaved(random, ['at once', 'in pieces']);
    expect(await move('at once', null)).toMatchObject({ more: false });
    const expected = (await valuesIn('at once')) as [number, number][];
    // The events of one transaction stand together, in its order.
    const transactions = expected.map(([transaction]) => transaction);
    expect(expected).toEqual(
      [...new Set(transactions)].flatMap((one) => expected.filter(([transaction]) => transaction === one)),
    );
    expect(expected.filter(([, n], at) => n !== 0 && expected[at - 1]![1] !== n - 1)).toEqual([]);
    let pieces = 0;
    for (let more = true, moved = 0; more; pieces += 1) {
      const step = await move('in pieces', 1 + random.below(20));
      more = step.more;
      moved += step.moved;
      // Whole transactions only: the next piece begins with another one.
      expect(transactions[moved]).not.toBe(transactions[moved - 1]);
    }
    expect(pieces).toBeGreaterThan(3);
    expect(await valuesIn('in pieces')).toEqual(expected);
  }));

describe('more dirty streams than a pass takes', () => {
  /** Passes, each from where the one before ended, until one comes to the end. */
  const round = async (limits: PassOptions): Promise<number> => {
    let after = '';
    let passes = 0;
    do {
      ({ next: after } = await pass(db, { ...limits, after }));
      passes += 1;
    } while (after !== '' && passes < 100);
    return passes;
  };

  // With few rows a pass sees all of them in one look, with many it goes from stream to stream.
  test.each([1, 30])(
    'I7: all are served, also behind streams that are always held (%s each)',
    async (each) => {
      await pass();
      const streams = Array.from({ length: 40 }, (_, n) => `served ${each} ${String(n).padStart(2, '0')}`);
      for (const stream of streams) await db.query('select sluice.create_stream($1)', [stream]);
      const values = Array.from({ length: each }, (_, n) => n);
      for (const stream of streams) {
        await db.query('select sluice.publish_many($1, $2)', [stream, values.join('\u001e')]);
      }
      await using holder = await openClient(db.connectionString);
      await holder.query('begin');
      await holder.query('select from sluice.streams where name = any ($1) for no key update', [
        streams.slice(0, 10),
      ]);
      expect(await round({ maxStreams: 7 })).toBe(Math.ceil(streams.length / 7));
      for (const stream of streams)
        expect(await valuesIn(stream)).toEqual(streams.indexOf(stream) < 10 ? [] : values);
      expect(await pass()).toMatchObject({ moved: 0, more: true });
      await holder.query('commit');
      expect(await round({ maxStreams: 7 })).toBe(2);
      for (const stream of streams) expect(await valuesIn(stream)).toEqual(values);
    },
  );

  test('I7: a pass that starts in the middle tells that it did not look at what comes before', async () => {
    await publish(db, 'a', 1);
    await db.query(`select sluice.publish('z', to_json(n)) from generate_series(1, 600) n`);
    expect(await pass(db, { after: 'a' })).toEqual({ moved: 600, refused: 0, more: true, next: '' });
    expect(await pass()).toEqual({ moved: 1, refused: 0, more: false, next: '' });
  });
});

test('I7: a stream that another transaction is creating is skipped, not waited for', async () => {
  await using creator = await openClient(db.connectionString);
  for (const end of ['rollback', 'commit']) {
    const stream = `created ${end}`;
    await creator.query('begin');
    await creator.query('select sluice.create_stream($1)', [stream]);
    await publish(db, stream, 1);
    await publish(db, 'beside the created', 1);
    expect(await pass()).toMatchObject({ moved: 1, more: true });
    await creator.query(end);
    expect(await pass()).toMatchObject({ moved: 1, more: false });
    expect(await valuesIn(stream)).toEqual([1]);
  }
});

test('interleaving 13: `at` never decreases, not even after a clock that was ahead', async () => {
  await db.query(`select sluice.append('ahead', '1')`);
  await db.query(
    `insert into sluice.events (stream_id, "offset", at, tag, size, data)
     select id, 2, clock_timestamp() + interval '1 day', 0, 1, '2' from sluice.streams where name = 'ahead'`,
  );
  await publish(db, 'ahead', 3);
  await pass();
  for (const waitMs of ['0', 'null']) {
    const append = `select sluice.append_batch(array['ahead'], array[1], '0', array[0], p_wait_ms => ${waitMs})`;
    await db.query(append);
    await publish(db, 'ahead', 0);
    await db.query(append);
  }
  const { rows } = await db.query(
    `select e."offset"::integer, at >= coalesce(lag(at) over (order by e."offset"), at) as follows
     from sluice.events e join sluice.streams s on s.id = e.stream_id where s.name = 'ahead' order by 1`,
  );
  expect(rows).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9].map((offset) => ({ offset, follows: true })));
});

describe('what the schema must not have', () => {
  test('interleavings 7 and 8: nothing that a publisher could wait for: no foreign key, no unique index on the outbox', async () => {
    const { rows } = await db.query(
      `select c.conrelid::regclass::text as place, c.conname as name from pg_constraint c
       where c.contype = 'f' and c.connamespace = 'sluice'::regnamespace
       union all
       select i.indrelid::regclass::text, i.indexrelid::regclass::text
       from pg_index i where (i.indisunique or i.indisexclusion)
         and i.indrelid in (select relid from pg_partition_tree('sluice.outbox'))`,
    );
    expect(rows).toEqual([]);
    expect((await db.query(`select from pg_partition_tree('sluice.outbox')`)).rowCount).toBe(4);
  });

  test('interleaving 14: no session takes a range of outbox ids for itself', async () => {
    const { rows } = await db.query(
      `select seqcache::integer as cache, seqcycle as cycles from pg_sequence where seqrelid = 'sluice.outbox_id'::regclass`,
    );
    expect(rows).toEqual([{ cache: 1, cycles: false }]);
  });

  test('interleaving 9: only locks of streams, and of what is tidied up or handed out, are skipped, never rows of the outbox', () => {
    const sql = filesUnder('sql/functions', ['.sql'])
      .map(({ text }) => text.replaceAll(/--.*$/gm, ''))
      .join('\n');
    const skipping = [...sql.matchAll(/skip\s+locked/g)].map(
      ({ index }) =>
        [...sql.slice(0, index).matchAll(/\b(?:from|join|using)\s+:"schema"\.(\w+)/g)].at(-1)?.[1],
    );
    const tidied = [
      'purges',
      'idempotency_keys',
      'presence',
      'presence_holders',
      'stats_history',
      'group_purges',
    ];
    const handedOut = ['leases', 'members', 'dead_letters'];
    expect(new Set(skipping)).toEqual(new Set(['streams', ...tidied, ...handedOut]));
    expect(sql).not.toMatch(/:"schema"\.outbox\b[^;]*\bfor\s+(?:no\s+key\s+)?(?:update|share)\b/);
  });
});
