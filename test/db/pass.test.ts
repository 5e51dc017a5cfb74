// Guards the move from the outbox into logs: races over the same rows, order, cuts, and what cannot be delivered. The
// number after "interleaving" is that of the list of what breaks plausible versions of this.
import { beforeAll, describe, expect, test } from 'vitest';
import { openClient } from '../support/client.ts';
import { useDatabase, type Database } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';

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
