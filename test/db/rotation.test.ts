// Guards what an old snapshot must not cost: the outbox's space, which comes back by emptying slots in turn (only when
// nothing can be lost by it, and never by making a publisher wait), and the work of looking past dead rows. The number
// after "interleaving" is that of the list of what breaks plausible versions of this.
import type { Client } from 'pg';
import { connect } from 'sluice';
import { describe, expect, test } from 'vitest';
import { openClient } from '../support/client.ts';
import { quick } from '../support/chaos.ts';
import { useDatabase, type Database } from '../support/database.ts';
import { nextMessage, until } from '../support/diagnostics.ts';

const db = useDatabase();

type Executor = Pick<Database, 'query'>;

const publish = async (on: Executor, stream: string, value: unknown): Promise<void> => {
  await on.query('select sluice.publish($1, $2)', [stream, JSON.stringify(value)]);
};

/** The new slot; -1: too small; null: no other slot is free. */
const rotate = async (on: Executor = db, minBytes = 0, waitMs = 0): Promise<number | null> => {
  const { rows } = await on.query<{ slot: number | null }>(
    'select sluice.rotate_outbox($1, $2)::integer as slot',
    [minBytes, waitMs],
  );
  return rows[0]!.slot;
};

/** Moves everything, and says how much that was. */
const pass = async (): Promise<number> => {
  const { rows } = await db.query<{ moved: number }>('select moved::integer from sluice.pass()');
  return rows[0]!.moved;
};

const valuesIn = async (stream: string): Promise<unknown[]> => {
  const { rows } = await db.query<{ data: unknown }>(
    `select e.data from sluice.events e join sluice.streams s on s.id = e.stream_id
     where s.name = $1 order by e."offset"`,
    [stream],
  );
  return rows.map(({ data }) => data);
};

/** How many rows lie in each slot. */
const rowsInSlots = async (): Promise<number[]> => {
  const { rows } = await db.query<{ slot: number; count: number }>(
    `select n as slot, (select count(*)::integer from sluice.outbox o where o.slot = n) as count
     from generate_series(0, 2) n order by n`,
  );
  return rows.map(({ count }) => count);
};

/** Empties the outbox and makes a slot the current one. */
const startAt = async (slot: number): Promise<void> => {
  await pass();
  await db.query('select setval($1, $2)', ['sluice.outbox_slot', slot]);
};

test('interleaving 11: with every other slot held by an open publisher a rotation gives up at once, and publishing goes on', async () => {
  await startAt(0);
  await using first = await openClient(db.connectionString);
  await using second = await openClient(db.connectionString);
  await using third = await openClient(db.connectionString);
  await first.query('begin');
  await publish(first, 'held slots', 1);
  expect(await rotate()).toBe(1);
  await second.query('begin');
  await publish(second, 'held slots', 2);
  expect(await rotate()).toBe(2);
  await third.query('begin');
  await publish(third, 'held slots', 3);
  expect(await rotate()).toBe(null);
  await publish(first, 'held slots', 4);
  await publish(db, 'held slots', 5);
  expect(await pass()).toBe(1);
  for (const client of [first, second, third]) await client.query('commit');
  // Committed and not moved: a slot with such rows is as taken as one with an open publisher.
  expect(await rotate()).toBe(null);
  expect(await pass()).toBe(4);
  expect(await valuesIn('held slots')).toEqual([5, 1, 4, 2, 3]);
  expect(await rotate()).toBe(0);
});

/** Until a session waits for a lock. */
const someoneWaits = (): Promise<void> =>
  until(async () => (await db.query('select from pg_locks where not granted')).rowCount !== 0);

/** Publishes into a slot that is not the current one: a publisher with a stale idea of it. */
const publishStale = async (on: Executor, slot: number, stream: string, value: unknown): Promise<void> => {
  await on.query('insert into sluice.outbox (slot, stream, data) values ($1, $2, $3)', [
    slot,
    stream,
    JSON.stringify(value),
  ]);
};

test('interleaving 11: a slot with pending rows is not emptied', async () => {
  await startAt(0);
  await publish(db, 'pending', 1);
  expect(await rotate()).toBe(1);
  await publish(db, 'pending', 2);
  expect(await rotate()).toBe(2);
  await publish(db, 'pending', 3);
  expect(await rotate()).toBe(null);
  expect(await rotate(db, 0, 1)).toBe(null);
  expect(await rowsInSlots()).toEqual([1, 1, 1]);
  expect(await pass()).toBe(3);
  expect(await valuesIn('pending')).toEqual([1, 2, 3]);
  expect(await rotate()).toBe(0);
});

test('interleaving 11: whether a slot is empty is asked after the wait for it', async () => {
  await startAt(0);
  await using publisher = await openClient(db.connectionString);
  await publisher.query('begin');
  await publishStale(publisher, 1, 'asked late', 1);
  const rotating = rotate(db, 0, 20_000);
  await someoneWaits();
  await publisher.query('commit');
  expect(await rotating).toBe(2);
  expect(await rowsInSlots()).toEqual([0, 1, 0]);
  expect(await pass()).toBe(1);
});

test('interleaving 11: a publisher with a stale idea of the current slot loses nothing', async () => {
  await startAt(0);
  await using old = await openClient(db.connectionString);
  await using stale = await openClient(db.connectionString);
  await old.query('begin isolation level repeatable read');
  await old.query('select from sluice.migrations');
  await stale.query('begin');
  await publish(db, 'stale', 1);
  expect(await pass()).toBe(1);
  expect([await rotate(), await rotate(), await rotate()]).toEqual([1, 2, 0]); // every slot was emptied
  expect(await rotate()).toBe(1);
  await publish(old, 'stale', 2);
  await publishStale(stale, 0, 'stale', 3);
  await publishStale(stale, 2, 'stale', 4);
  await publish(db, 'stale', 5);
  expect(await pass()).toBe(1);
  expect(await rotate()).toBe(null);
  await stale.query('commit');
  expect(await rotate()).toBe(null);
  await old.query('commit');
  expect(await pass()).toBe(3);
  expect(await valuesIn('stale')).toEqual([1, 5, 2, 3, 4]);
});

test('interleaving 11: a publisher that meets a rotation under way inserts after the truncate', async () => {
  await startAt(0);
  await using rotator = await openClient(db.connectionString);
  await rotator.query('begin');
  expect(await rotate(rotator)).toBe(1);
  const published = publish(db, 'met', 1);
  await someoneWaits();
  await rotator.query('commit');
  await published;
  expect(await rowsInSlots()).toEqual([0, 1, 0]);
  expect(await pass()).toBe(1);
  // A rotation that is rolled back leaves the switch, which is not transactional, and no harm.
  await rotator.query('begin');
  expect(await rotate(rotator)).toBe(2);
  await rotator.query('rollback');
  await publish(db, 'met', 2);
  expect(await rowsInSlots()).toEqual([0, 0, 1]);
  expect(await pass()).toBe(1);
  expect(await valuesIn('met')).toEqual([1, 2]);
});

test('interleaving 11: while somebody reads every slot a rotation gives up, also one that may wait', async () => {
  await startAt(0);
  await using reader = await openClient(db.connectionString);
  await reader.query('begin');
  await reader.query('select sluice.pass()');
  expect(await rotate()).toBe(null);
  expect(await rotate(db, 0, 5)).toBe(null);
  await publish(db, 'read', 1);
  expect(await pass()).toBe(1);
  // One that waits gets the slot when the reader is gone.
  const rotating = rotate(db, 0, 20_000);
  await someoneWaits();
  await reader.query('commit');
  expect(await rotating).toBe(1);
});

describe('a slot is left when it has grown to the size asked for', () => {
  test('and not before', async () => {
    await startAt(0);
    expect(await rotate(db, 100_000)).toBe(-1);
    await db.query(`select sluice.publish('small', to_json(repeat('x', 1000))) from generate_series(1, 100)`);
    expect(await rotate(db, 1_000_000)).toBe(-1);
    expect(await rotate(db, 100_000)).toBe(1);
    expect(await rotate(db, 100_000)).toBe(-1);
  });

  test('counting also large payloads, which are stored beside the row', async () => {
    await startAt(0);
    await db.query(
      `select sluice.publish('large', to_json(string_agg(gen_random_uuid()::text, '')))
       from generate_series(1, 40000) n group by n % 20`,
    );
    expect(await rotate(db, 1_000_000)).toBe(1);
    expect(await pass()).toBe(20);
  });
});

/** Bytes of all slots, with what is stored beside them and their indexes. */
const outboxBytes = async (): Promise<number> => {
  const { rows } = await db.query<{ bytes: number }>(
    `select sum(pg_total_relation_size(relid))::integer as bytes from pg_partition_tree('sluice.outbox') where isleaf`,
  );
  return rows[0]!.bytes;
};

test('I7, interleaving 11: the space comes back behind an open snapshot', async () => {
  await startAt(0);
  await using holder = await openClient(db.connectionString);
  await holder.query('begin isolation level repeatable read');
  await holder.query('select from sluice.migrations');
  let once = 0;
  for (let round = 1; round <= 15; round += 1) {
    await db.query(`select sluice.publish('space', to_json(repeat('x', 1000))) from generate_series(1, 200)`);
    if (round === 1) once = await outboxBytes();
    expect(await pass()).toBe(200);
    expect(await rotate()).toBe(round % 3);
    expect(await outboxBytes()).toBeLessThan(3 * once);
  }
});

describe('rotation by itself', () => {
  /** Publishes until a slot was left for another, and waits until all of it is moved. */
  const publishUntilRotated = async (stream: string): Promise<void> => {
    const rotated = new AbortController();
    const message = nextMessage<{ slot: number }>('sluice:relay.rotated').finally(() => rotated.abort());
    let published = 0;
    while (!rotated.signal.aborted) {
      await db.query(
        `select sluice.publish($1, to_json(n || repeat(' ', 1500))) from generate_series($2::integer, $3::integer) n`,
        [stream, published + 1, published + 500],
      );
      published += 500;
    }
    expect([0, 1, 2]).toContain((await message).slot);
    await until(async () => (await db.query('select from sluice.outbox limit 1')).rowCount === 0);
    const values = (await valuesIn(stream)) as string[];
    expect(values.map(Number)).toEqual(Array.from({ length: published }, (_, n) => n + 1));
  };

  test('I7: the relay rotates under load, and loses nothing', async () => {
    await using sluice = await connect({
      connectionString: db.connectionString,
      ...quick,
      fallbackPollMs: 60_000,
    });
    await publishUntilRotated('by the relay');
    await sluice.close();
  });

  test('I7: where nobody has the role, the fallback poll does', async () => {
    await using sluice = await connect({ connectionString: db.connectionString, ...quick, relay: false });
    await publishUntilRotated('by the poll');
    await sluice.close();
  });
});

describe('interleaving 12: giving an offset costs the same however much lies before it', () => {
  interface Cost {
    /** Pages of any table or index looked at. */
    readonly pages: number;
    /** Rows fetched from events and the outbox. */
    readonly rows: number;
  }

  /** Rows this session has fetched since its counts were last sent. */
  const rowsRead = async (client: Client): Promise<number> => {
    const { rows } = await client.query<{ rows: number }>(
      `select sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::integer as rows from pg_stat_xact_user_tables
       where schemaname = 'sluice' and (relname = 'events' or relname like 'outbox%')`,
    );
    return rows[0]!.rows;
  };

  /** What a statement reads, with everything that the functions it calls read. */
  const costOf = async (client: Client, statement: string): Promise<Cost> => {
    await client.query('begin'); // keeps the counts
    const before = await rowsRead(client);
    const explained = await client.query<{ 'QUERY PLAN': [{ Plan: Record<string, number> }] }>(
      `explain (analyze, buffers, format json) ${statement}`,
    );
    const rows = (await rowsRead(client)) - before;
    await client.query('commit');
    const plan = explained.rows[0]!['QUERY PLAN'][0].Plan;
    return { pages: plan['Shared Hit Blocks']! + plan['Shared Read Blocks']!, rows };
  };

  /** A pass, and both kinds of append: one that only tries a stream, and one that may wait for it. */
  const statementsFor = (stream: string): string[] => [
    'select * from sluice.pass()',
    `select * from sluice.append_batch(array['${stream}'], array[1], '1', array[0])`,
    `select * from sluice.append_batch(array['${stream}'], array[1], '1', array[0], p_wait_ms => null)`,
  ];

  /** What each reads, with three events pending before it and with none, in a session that has done all that before. */
  const costs = async (client: Client, stream: string): Promise<Cost[]> => {
    const measured: Cost[] = [];
    const statements = statementsFor(stream);
    for (const statement of [...statements, ...statements]) {
      await client.query('select sluice.publish($1, to_json(n)) from generate_series(1, 3) n', [stream]);
      measured.push(await costOf(client, statement));
      measured.push(await costOf(client, statement));
    }
    return measured.slice(measured.length / 2);
  };

  /**
   * Few against the 20 000 and 50 000 that there are; a pass looks at 501 pending ones to find out whose they are.
   * Judged by rows: pages also count what a session reads of the catalogue when its plans are made anew.
   */
  const expectFew = (measured: readonly Cost[]): void => {
    expect(measured.filter(({ rows }) => rows > 600)).toEqual([]);
  };

  const addEvents = (streams: string, count: number): Promise<unknown> =>
    db.query(
      `insert into sluice.events (stream_id, "offset", at, tag, size, data)
       select s.id, 1000 + n, now(), 0, 1, '1' from sluice.streams s, generate_series(1, $2::integer) n
       where s.name like $1`,
      [streams, count],
    );

  test('with long streams, a long backlog of another stream, with statistics of any age or none', async () => {
    await startAt(0);
    await using client = await openClient(db.connectionString);
    await using holder = await openClient(db.connectionString);
    await db.query(`select sluice.create_stream('long ' || n) from generate_series(1, 10) n`);
    await db.query(`select sluice.create_stream('heavy')`);
    await costs(client, 'long 5');
    await addEvents('long %', 5000);
    expectFew(await costs(client, 'long 5'));
    // Plans made for an outbox that is nearly empty are kept when it fills.
    await db.query('analyze');
    expectFew(await costs(client, 'long 5'));
    await holder.query('begin');
    await holder.query(`select from sluice.streams where name = 'heavy' for no key update`);
    await db.query(`select sluice.publish('heavy', to_json(n)) from generate_series(1, 20000) n`);
    expectFew(await costs(client, 'long 5'));
    // Statistics of one stream's backlog say that all streams have such.
    await db.query('analyze');
    expectFew(await costs(client, 'long 5'));
  });

  // Rows that are gone are fetched by nobody: wading through their entries shows in pages alone, nearly 700 of them. The
  // least of three, since a plan that is made anew reads the catalogue.
  test('with 50 000 events trimmed behind an open snapshot', async () => {
    await pass();
    await db.query('vacuum sluice.outbox');
    await using client = await openClient(db.connectionString);
    await using holder = await openClient(db.connectionString);
    await db.query(`select sluice.create_stream('trimmed')`);
    await costs(client, 'trimmed');
    await addEvents('trimmed', 50_000);
    await holder.query('begin isolation level repeatable read');
    await holder.query('select from sluice.migrations');
    for (const statement of statementsFor('trimmed')) {
      const measured: Cost[] = [];
      for (let n = 0; n < 3; n++) {
        await db.query(`update sluice.streams set trimmed_to = trimmed_to + 100000 where name = 'trimmed'`);
        await db.query(
          `delete from sluice.events where stream_id = (select id from sluice.streams where name = 'trimmed')`,
        );
        if (statement.includes('pass')) await publish(db, 'trimmed', 1);
        measured.push(await costOf(client, statement));
      }
      expectFew(measured);
      expect(Math.min(...measured.map(({ pages }) => pages)), statement).toBeLessThan(300);
    }
  });
});
