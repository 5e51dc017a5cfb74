// Guards the move from the outbox into logs: races over the same rows, order, cuts, and what cannot be delivered. The
// number after "interleaving" is that of the list of what breaks plausible versions of this.
import { expect, test } from 'vitest';
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
