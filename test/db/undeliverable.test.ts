// Guards what could not be delivered: listed in order whatever its number, and there until somebody drops it, which takes
// what was asked for and nothing else (I3).
import { connect, type Sluice } from 'sluice';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';
import { backendOf, isBlocked, pass, publish } from '../support/log-sql.ts';

const db = useDatabase();
let sluice: Sluice;
beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString, relay: false, fallbackPollMs: 600_000 });
});
afterAll(() => sluice.close());
beforeEach(async () => {
  await db.query('truncate sluice.undeliverable restart identity');
});

const listed = async (): Promise<string[]> => {
  const ids: string[] = [];
  for await (const { id } of sluice.undeliverable()) ids.push(id);
  return ids;
};
const numbers = (from: number, to: number): string[] =>
  Array.from({ length: to - from + 1 }, (_, index) => String(from + index));
const insert = (count: number): string =>
  `insert into sluice.undeliverable (reason, published_at, stream_id, stream, data)
   select 'stream_deleted', now(), 1, 'gone', to_json(n) from generate_series(1, ${count}) n`;

test('I3: all of them are listed, oldest first, however many', async () => {
  await db.query(insert(1200));
  expect(await listed()).toEqual(numbers(1, 1200));
});

test('what a deleted stream left behind is dropped by its id, once', async () => {
  await sluice.createStream('left');
  await publish(db, 'left', 1, 2, 3);
  await sluice.deleteStream('left');
  await pass(db);
  expect(await listed()).toEqual(['1', '2', '3']);
  expect(await sluice.dropUndeliverable({ ids: ['3', '1', '3', '77'] })).toBe(2);
  expect(await listed()).toEqual(['2']);
  expect(await sluice.dropUndeliverable({ ids: ['1'] })).toBe(0);
});

test('some or all of very many go, in batches', async () => {
  await db.query(insert(1800));
  expect(await sluice.dropUndeliverable({ ids: numbers(201, 900) })).toBe(700);
  expect(await listed()).toEqual([...numbers(1, 200), ...numbers(901, 1800)]);
  expect(await sluice.dropUndeliverable()).toBe(1100);
  expect(await listed()).toEqual([]);
  expect(await sluice.dropUndeliverable()).toBe(0);
});

test('of all, those that come meanwhile stay', async () => {
  await db.query(insert(1200));
  await using other = await openClient(db.connectionString);
  await other.query('begin; select from sluice.undeliverable where id = 700 for update');
  const dropping = sluice.dropUndeliverable();
  await until(async () => {
    const { rows } = await db.query<{ pid: number }>(
      `select pid from pg_stat_activity where datname = current_database() and query like '%drop_undeliverable(%' and pid <> pg_backend_pid()`,
    );
    return rows[0] !== undefined && (await isBlocked(db, rows[0].pid));
  });
  await db.query(insert(1000));
  await other.query('commit');
  expect(await dropping).toBe(1200);
  expect(await listed()).toEqual(numbers(1201, 2200));
});

test('two who drop at once wait for each other, and count each event once', async () => {
  await db.query(insert(10));
  await using one = await openClient(db.connectionString);
  await using two = await openClient(db.connectionString);
  const drop = `select sluice.drop_undeliverable('{9,3,5}')::int as count`;
  await one.query('begin');
  expect((await one.query(drop)).rows).toEqual([{ count: 3 }]);
  const pid = await backendOf(two);
  const second = two.query(`select sluice.drop_undeliverable(p_limit => 8)::int as count`);
  await until(() => isBlocked(db, pid));
  await one.query('commit');
  expect((await second).rows).toEqual([{ count: 7 }]);
  expect(await listed()).toEqual([]);
});

test('what names no ids drops nothing, least of all everything', async () => {
  await db.query(insert(3));
  for (const ids of [null, '1', 1, {}, new Set(['1'])]) {
    const drop = sluice.dropUndeliverable({ ids: ids as never });
    await expect(drop).rejects.toThrow(TypeError);
    await expect(drop).rejects.toThrow(/^ids is .+; give an array of strings, or leave it out for all$/);
  }
  for (const id of [1, 1n, null, undefined, '', '-1', '1.0', ' 1', 'all', '9223372036854775808']) {
    const drop = sluice.dropUndeliverable({ ids: ['1', id] as never });
    await expect(drop).rejects.toThrow(TypeError);
    await expect(drop).rejects.toThrow(/is no id; give ids of undeliverable events, as decimal strings$/);
  }
  await expect(sluice.dropUndeliverable({ ids: Array.from({ length: 2 }) })).rejects.toThrow(TypeError);
  expect(await sluice.dropUndeliverable({ ids: [] })).toBe(0);
  expect(await listed()).toEqual(['1', '2', '3']);
});

test('an abort leaves what was not dropped yet', async () => {
  await db.query(insert(1200));
  await using other = await openClient(db.connectionString);
  await other.query('begin; select from sluice.undeliverable where id = 700 for update');
  const aborting = new AbortController();
  const dropping = sluice.dropUndeliverable({ signal: aborting.signal });
  dropping.catch(() => {});
  await until(async () => !(await listed()).includes('1'));
  aborting.abort(new Error('enough'));
  await expect(dropping).rejects.toThrow('enough');
  await other.query('commit');
  await until(async () => (await listed())[0] === '1001'); // the batch that waited goes, and no other
  expect(await listed()).toEqual(numbers(1001, 1200));
});
