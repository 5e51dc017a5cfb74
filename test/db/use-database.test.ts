// Guards the database every test file gets: migrated, its own, and watched for sessions that nobody closed. If this
// fails, the other tests of this project judge the wrong database.
import { Client } from 'pg';
import { describe, expect, test } from 'vitest';
import { openSessions, useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';

const db = useDatabase();

test('it is migrated', async () => {
  const { rows } = await db.query(`select 1 from pg_namespace where nspname = $1`, ['sluice']);
  expect(rows).toHaveLength(1);
});

test('a session left open in it is found', async () => {
  expect(await openSessions(db.pool)).toBeNull();
  const forgotten = new Client({ connectionString: db.connectionString, application_name: 'forgotten' });
  await forgotten.connect();
  try {
    await forgotten.query('begin');
    expect(await openSessions(db.pool)).toMatch(/forgotten idle in transaction: begin/);
  } finally {
    await forgotten.end();
  }
  await until(async () => (await openSessions(db.pool)) === null);
});

describe('beside it', () => {
  const other = useDatabase();
  const empty = useDatabase({ migrated: false });

  test('there can be others, which see nothing of it', async () => {
    await db.query('create table only_here ()');
    const { rows } = await other.query<{ found: string | null }>(
      `select to_regclass('only_here')::text as found`,
    );
    expect(rows).toEqual([{ found: null }]);
  });

  test('an empty one is not migrated', async () => {
    const { rows } = await empty.query(`select 1 from pg_namespace where nspname = $1`, ['sluice']);
    expect(rows).toEqual([]);
  });
});

test('the server is set up as the tests expect', async () => {
  const { rows } = await db.query<{ name: string; setting: string }>(
    `select name, setting from pg_settings
     where name in ('synchronous_commit', 'wal_level', 'max_prepared_transactions') order by name`,
  );
  expect(Object.fromEntries(rows.map(({ name, setting }) => [name, setting]))).toMatchObject({
    synchronous_commit: 'on',
    wal_level: 'logical',
  });
});
