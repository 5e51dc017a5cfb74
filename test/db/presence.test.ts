// Guards what the functions of presence do to each other's rows: who came back is not taken for one who is gone, and
// nobody waits in a circle.
import { randomUUID } from 'node:crypto';
import type { Client } from 'pg';
import { beforeEach, expect, test } from 'vitest';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';

const db = useDatabase();
const LEASE_MS = 60_000;

beforeEach(() => db.query('truncate sluice.presence, sluice.presence_holders'));

interface Session {
  query(text: string, values: unknown[]): Promise<unknown>;
}
interface Seat {
  readonly connection: string;
  readonly stream: string;
}

const enter = (client: Session, holder: string, seats: readonly Seat[]): Promise<unknown> =>
  client.query('select sluice.enter_presence($1, $2, $3, $4, $5, $6)', [
    holder,
    LEASE_MS,
    seats.map(({ connection }) => connection),
    seats.map(({ stream }) => stream),
    seats.map(() => 'ann'),
    seats.map(() => 'null'),
  ]);
const leave = (client: Session, holder: string, seats: readonly Seat[]): Promise<unknown> =>
  client.query('select sluice.leave_presence($1, $2)', [holder, seats.map(({ connection }) => connection)]);
const renew = (client: Session, holder: string): Promise<unknown> =>
  client.query('select sluice.renew_presence($1, $2)', [holder, LEASE_MS]);
const expire = (holder: string): Promise<unknown> =>
  db.query(`update sluice.presence_holders set expires_at = '-infinity' where id = $1`, [holder]);
const holders = async (): Promise<unknown[]> =>
  (await db.query<{ holder: string }>('select holder from sluice.presence order by stream')).rows.map(
    ({ holder }) => holder,
  );
const pidOf = async (client: Client): Promise<number> =>
  (await client.query<{ pid: number }>('select pg_backend_pid() as pid')).rows[0]?.pid ?? 0;
/** Resolves when the session waits for a lock, or the work is done without. */
const waitsOrDone = async (pid: number, work: Promise<unknown>): Promise<void> => {
  const state = { done: false };
  void work.finally(() => (state.done = true)).catch(() => {});
  await until(async () => {
    const { rows } = await db.query('select from pg_locks where pid = $1 and not granted', [pid]);
    return state.done || rows.length > 0;
  });
};

test('who comes back while what is gone is taken out stays', async () => {
  const [gone, back, other] = [randomUUID(), randomUUID(), randomUUID()];
  const seat = { connection: randomUUID(), stream: 'a' };
  await enter(db, gone, [seat]);
  await expire(gone);
  await using returning = await openClient(db.connectionString);
  await using cleaning = await openClient(db.connectionString);
  await returning.query('begin');
  await enter(returning, back, [seat]);
  const pid = await pidOf(cleaning);
  const renewed = renew(cleaning, other);
  await waitsOrDone(pid, renewed);
  await returning.query('commit');
  await renewed;
  expect(await holders()).toEqual([back]);
});

test('what somebody holds on to is left to the next beat, and so is its holder', async () => {
  const [gone, other] = [randomUUID(), randomUUID()];
  const [free, held] = [
    { connection: randomUUID(), stream: 'a' },
    { connection: randomUUID(), stream: 'b' },
  ];
  await enter(db, gone, [free, held]);
  await expire(gone);
  await using busy = await openClient(db.connectionString);
  await busy.query('begin');
  await busy.query(`select from sluice.presence where stream = 'b' for update`);
  await renew(db, other);
  expect(await holders()).toEqual([gone]);
  await busy.query('rollback');
  await renew(db, other);
  expect([await holders(), (await db.query('select from sluice.presence_holders')).rows]).toEqual([[], []]);
});

// Which of them goes first in an index, in the table or in the language of the database must not matter.
test.each([
  ['a', 'b'],
  ['B', 'a'],
])('who enters and who leaves at once do not wait in a circle: %s, %s', async (first, second) => {
  const [before, after] = [randomUUID(), randomUUID()];
  const low = '00000000-0000-4000-8000-000000000000';
  const high = 'ffffffff-ffff-4fff-bfff-ffffffffffff';
  const seats = [
    { connection: high, stream: first },
    { connection: low, stream: second },
  ];
  await enter(db, before, seats.toReversed());
  await using leaving = await openClient(db.connectionString);
  await using entering = await openClient(db.connectionString);
  await entering.query('begin');
  await enter(entering, after, seats.slice(0, 1));
  const pid = await pidOf(leaving);
  const left = leave(leaving, before, seats);
  await waitsOrDone(pid, left);
  await enter(entering, after, seats.slice(1));
  await entering.query('commit');
  await left;
  expect(await holders()).toEqual([after, after]);
});

test('I7: however many come at once, and whatever they are called, no announcement is longer than a broadcast', async () => {
  const names = Array.from({ length: 120 }, (_, index) => `${index}`.padEnd(255, '€'));
  await db.query(
    `select sluice.enter_presence(gen_random_uuid(), $1, array(select gen_random_uuid() from unnest($2::text[])),
       array(select 'crowd' from unnest($2::text[])), $2, array(select 'null' from unnest($2::text[])))`,
    [LEASE_MS, names],
  );
  const { rows } = await db.query<{ data: string[]; bytes: number }>(
    `select data, octet_length(data::text) as bytes from sluice.ephemerals where stream = 'crowd'`,
  );
  expect(rows.flatMap(({ data }) => data).toSorted()).toEqual(names.toSorted());
  expect(Math.max(...rows.map(({ bytes }) => bytes))).toBeLessThan(65_536);
});
