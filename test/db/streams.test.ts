// Guards streams as things: made once, listed in order whatever their number, described truly, and gone when deleted,
// with their events removed bit by bit and nobody else's touched (I7).
import { connect, type Sluice } from 'sluice';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { decodeCursor } from '../../src/protocol/cursor.ts';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { backendOf, isBlocked, logOf, pass, publish } from '../support/log-sql.ts';
import { until } from '../support/diagnostics.ts';

const db = useDatabase();
let sluice: Sluice;
beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString, relay: false, fallbackPollMs: 600_000 });
});
afterAll(() => sluice.close());

const namesWith = async (prefix?: string): Promise<string[]> => {
  const names: string[] = [];
  for await (const { name } of sluice.streams({ prefix })) names.push(name);
  return names;
};
const eventsOf = async (incarnation: string): Promise<number> =>
  (await db.query('select from sluice.events where stream_id = $1', [incarnation])).rowCount ?? 0;
const purge = async (limit: number): Promise<number> => {
  const { rows } = await db.query<{ removed: number }>('select removed::int from sluice.purge_events($1)', [
    limit,
  ]);
  return rows[0]!.removed;
};

describe('making', () => {
  test('a stream is made once, and described', async () => {
    const made = await sluice.createStream('made');
    const rates = { lastMinute: 0, lastHour: 0 };
    const nothing = { bytes: 0n, rates, idempotencyWindowMs: 86_400_000 };
    const info = { name: 'made', head: 0n, oldest: 1n, count: 0n, closed: false, retention: {}, ...nothing };
    expect(made).toEqual({ ...info, createdAt: expect.any(Date) });
    await expect(sluice.createStream('made')).rejects.toMatchObject({
      code: 'stream_exists',
      message: expect.stringContaining("stream 'made' exists"),
    });
    await sluice.stream('made').appendMany([{ data: 1 }, { data: 2 }]);
    const written = { head: 2n, count: 2n, bytes: 2n, rates: { lastMinute: 2 / 60, lastHour: 2 / 3600 } };
    expect(await sluice.stream('made').info()).toEqual({ ...made, ...written });
    await db.query(`select sluice.close_stream('made')`);
    expect(await sluice.stream('made').info()).toEqual({ ...made, ...written, closed: true });
    expect(await sluice.stream('unmade').info()).toBeNull();
  });

  test('of many who make one at once, one succeeds', async () => {
    const attempts = Array.from({ length: 8 }, () => sluice.createStream('contended'));
    const outcomes = await Promise.allSettled(attempts);
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'stream_exists' });
    }
  });

  test('many first appends and publishes at once make one stream', async () => {
    await Promise.all(
      Array.from({ length: 20 }, (_, n) => {
        const stream = sluice.stream('first use');
        return n % 2 ? stream.append(n) : stream.publish(n);
      }),
    );
    await pass(db);
    expect(await namesWith('first use')).toEqual(['first use']);
    expect(await logOf(db, 'first use')).toHaveLength(20);
  });

  test('an append by SQL waits for whoever is making its stream; one by the library tries again', async () => {
    await using maker = await openClient(db.connectionString);
    await maker.query('begin');
    await maker.query(`select sluice.create_stream('slow')`);
    const byLibrary = sluice.stream('slow').append('library');
    await using client = await openClient(db.connectionString);
    const pid = await backendOf(client);
    const bySql = client.query(`select sluice.append('slow', '"SQL"')`);
    await until(() => isBlocked(db, pid));
    await maker.query('commit');
    await Promise.all([byLibrary, bySql]);
    expect((await logOf(db, 'slow')).sort()).toEqual(['"SQL"', '"library"']);
  });
});

describe('listing', () => {
  test('by prefix, in the order of their bytes, past any page', async () => {
    const numbered = Array.from({ length: 1203 }, (_, n) => `list/${n}`);
    const odd = ['list%', 'list/_', 'list/é', 'list/\\', 'LIST/1', 'list', "list/'"];
    await db.query('insert into sluice.streams (name) select unnest($1::text[])', [[...numbered, ...odd]]);
    const bytewise = (names: readonly string[]): string[] =>
      names.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    const all = [...numbered, ...odd];
    expect(await namesWith('list/')).toEqual(bytewise(all.filter((name) => name.startsWith('list/'))));
    expect(await namesWith('list%')).toEqual(['list%']);
    expect(await namesWith('list/_')).toEqual(['list/_']);
    expect(await namesWith('list/\\')).toEqual(['list/\\']);
    expect((await namesWith()).filter((name) => /^list/i.test(name))).toEqual(bytewise(all));
    expect(await namesWith('no such')).toEqual([]);
  });

  test('a prefix that no name can have, or a name where names are asked for, is refused', async () => {
    expect(() => sluice.streams({ prefix: 'a\n' })).toThrow(/^prefix "a\\n" contains a control character$/);
    await expect(sluice.watermark('list' as never)).rejects.toThrow(/streams must be an array of names/);
  });

  test('a loop that is left or aborted asks for nothing more', async () => {
    const controller = new AbortController();
    let seen = 0;
    for await (const { name } of sluice.streams({ prefix: 'list/', signal: controller.signal })) {
      expect(name).toMatch(/^list/);
      seen += 1;
      if (seen === 3) controller.abort();
    }
    expect(seen).toBe(3);
  });
});

describe('deleting', () => {
  test('it is gone at once, and its name is free for another one', async () => {
    await sluice.stream('deleted').append(1);
    expect(await sluice.deleteStream('deleted')).toBe(true);
    expect(await sluice.deleteStream('deleted')).toBe(false);
    expect(await sluice.stream('deleted').info()).toBeNull();
    await expect(sluice.stream('deleted').read()).rejects.toMatchObject({ code: 'stream_not_found' });
    expect((await sluice.stream('deleted').append(2)).offset).toBe(1n);
    expect(await logOf(db, 'deleted')).toEqual(['2']);
  });

  test('I7: its events are removed in bounded steps, and no other stream’s', async () => {
    while ((await purge(1000)) > 0);
    const incarnations: string[] = [];
    for (const [name, count] of [
      ['purged one', 25],
      ['kept', 25],
      ['purged two', 25],
    ] as const) {
      const { cursor } = await sluice
        .stream(name)
        .appendMany(Array.from({ length: count }, () => ({ data: 1 })));
      incarnations.push(String(decodeCursor(cursor)?.[0]?.incarnation));
    }
    await sluice.deleteStream('purged one');
    await sluice.deleteStream('purged two');
    await sluice.stream('purged one').append('of the next one');
    expect([await purge(10), await purge(20)]).toEqual([10, 20]);
    const [one, kept, two] = await Promise.all(incarnations.map(eventsOf));
    expect([one, kept, two]).toEqual([0, 25, 20]);
    expect([await purge(100), await purge(100)]).toEqual([20, 0]);
    expect(await eventsOf(incarnations[1]!)).toBe(25);
    expect(await logOf(db, 'purged one')).toEqual(['"of the next one"']);
    expect((await db.query('select from sluice.purges')).rowCount).toBe(0);
  });

  test('of two who remove at once, neither waits, and nothing is left over', async () => {
    for (const name of ['both one', 'both two']) {
      await sluice.stream(name).appendMany([{ data: 1 }, { data: 2 }]);
      await sluice.deleteStream(name);
    }
    await using other = await openClient(db.connectionString);
    await other.query('begin');
    await other.query('select sluice.purge_events(2)');
    await using client = await openClient(db.connectionString);
    await client.query(`set statement_timeout = '5s'`);
    expect((await client.query('select removed::int, more from sluice.purge_events(10)')).rows).toEqual([
      { removed: 0, more: false },
    ]);
    await other.query('commit');
    expect([await purge(10), await purge(10)]).toEqual([2, 0]);
  });

  test('what was published to it and not moved is listed; what is published by its name alone makes a new one', async () => {
    await sluice.createStream('half moved');
    await publish(db, 'half moved', 1);
    await sluice.deleteStream('half moved');
    await publish(db, 'half moved', 2);
    await pass(db);
    expect(await logOf(db, 'half moved')).toEqual(['2']);
    const listed: unknown[] = [];
    for await (const { stream, reason, data } of sluice.undeliverable()) listed.push([stream, reason, data]);
    expect(listed).toEqual([['half moved', 'stream_deleted', 1]]);
  });
});
