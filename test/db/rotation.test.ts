// Guards taking back the outbox's space: a slot is emptied only when nothing can be lost by it, and never by making a
// publisher wait. The number after "interleaving" is that of the list of what breaks plausible versions of this.
import { expect, test } from 'vitest';
import { openClient } from '../support/client.ts';
import { useDatabase, type Database } from '../support/database.ts';

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
