// Guards upgrading a schema that is in use: what version 1 had left to do is still done, and what it stored is what it was.
import { migrate } from 'sluice';
import { expect, test } from 'vitest';
import { migrations, SCHEMA_VERSION } from '../../src/db/migrate.ts';
import { namesFor, renderSql } from '../../src/db/names.ts';
import { useDatabase } from '../support/database.ts';
import { logOf } from '../support/log-sql.ts';
import { purge, spanOf } from '../support/retained.ts';

const db = useDatabase({ migrated: false });

test('from version 1: streams deleted there go on losing their rows, and no other stream does', async () => {
  await db.query('create schema sluice');
  await db.query(
    `create table sluice.migrations (version integer primary key, name text not null, compatible_from integer not null,
       functions_hash text, applied_at timestamptz not null default clock_timestamp())`,
  );
  await db.query(renderSql(migrations[0]!.sql, namesFor('sluice')));
  await db.query(`insert into sluice.migrations (version, name, compatible_from) values (1, '0001_log', 1)`);
  await db.query(`insert into sluice.streams (name) values ('deleted'), ('kept')`);
  await db.query(
    `insert into sluice.events (stream_id, "offset", at, tag, size, data)
     select id, n, now(), n, 1, '1' from sluice.streams, generate_series(1, 9) n`,
  );
  // Deleted, and half removed.
  await db.query(
    `with gone as (delete from sluice.streams where name = 'deleted' returning id),
       removed as (delete from sluice.events using gone where stream_id = gone.id and "offset" <= 4)
     insert into sluice.purges (stream_id) select id from gone`,
  );
  expect(await migrate({ connectionString: db.connectionString })).toEqual({ from: 1, to: SCHEMA_VERSION });
  expect([await purge(db, 3), await purge(db, 3), await purge(db, 3)]).toEqual([0, 2, 3]);
  expect((await db.query('select from sluice.purges')).rowCount).toBe(0);
  expect(await spanOf(db, 'kept')).toEqual({ start: 0, rows: [1, 9] });
  await db.query(`select sluice.append('kept', '2')`);
  expect((await logOf(db, 'kept')).at(-1)).toBe('2');
});
