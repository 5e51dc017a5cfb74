// Guards that Sluice works on servers that are set up differently than those of tests: with
// compilation of costly plans. What the server at hand cannot show is asked of the catalogs.
import { expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';

const db = useDatabase();

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
