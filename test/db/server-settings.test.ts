// Guards that Sluice works on servers that are set up differently than those of tests: with change data capture, with
// compilation of costly plans. What the server at hand cannot show is asked of the catalogs.
import { connect } from 'sluice';
import { expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';

const db = useDatabase();

test('I3: under a publication of all tables everything is moved, handled, trimmed and removed', async () => {
  await db.query('create publication everything for all tables');
  await using sluice = await connect({ connectionString: db.connectionString });
  const stream = sluice.stream<number>('captured');
  await stream.append(1);
  await stream.publish(2, { idempotencyKey: 'two' });
  await stream.publish(3, { delayMs: 1 });
  const ended = new AbortController();
  const handled: number[] = [];
  await stream.group('workers').consume(
    async ({ data }) => {
      handled.push(data);
      if (data === 3) ended.abort();
    },
    { signal: ended.signal },
  );
  expect(handled.toSorted((a, b) => a - b)).toEqual([1, 2, 3]);
  await stream.trim({ before: 3n });
  await db.query('select sluice.purge_events()');
  expect(await sluice.deleteStream('captured')).toBe(true);
  await db.query('select sluice.purge_events()');
  expect((await db.query('select from sluice.events')).rowCount).toBe(0);
});

test('I3: every table that is logged says by what its rows are known, as logical replication asks', async () => {
  const { rows } = await db.query(
    `select c.relname from pg_class c
     where c.relnamespace = 'sluice'::regnamespace and c.relkind = 'r' and c.relpersistence = 'p' and c.relreplident <> 'f'
       and not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary)`,
  );
  expect(rows).toEqual([]);
});

// To a server before 18, a plan that has to use what is turned off costs 10 000 000 000 more: far beyond the cost from which
// on it compiles a plan, each time it runs. Embedded servers cannot compile.
test('no function turns off ways to plan without turning off compilation', async () => {
  const { rows } = await db.query(
    `select p.proname from pg_proc p
     where p.pronamespace = 'sluice'::regnamespace and array_to_string(p.proconfig, ' ') like '%enable_%=off%'
       and 'jit=off' <> all (p.proconfig)`,
  );
  expect(rows).toEqual([]);
});
