// Guards upgrading a schema that is in use: what version 1 had left to do is still done, and what it stored is what it was.
import { migrate } from 'sluice';
import { expect, test } from 'vitest';
import { migrations, SCHEMA_VERSION } from '../../src/db/migrate.ts';
import { namesFor, renderSql } from '../../src/db/names.ts';
import { useDatabase } from '../support/database.ts';
import { logOf } from '../support/log-sql.ts';
import { purge, spanOf } from '../support/retained.ts';

const db = useDatabase({ migrated: false });

/** What a package of that version left behind, without its functions. */
async function installed(version: number): Promise<void> {
  await db.query('drop schema if exists sluice cascade; create schema sluice');
  await db.query(
    `create table sluice.migrations (version integer primary key, name text not null, compatible_from integer not null,
       functions_hash text, applied_at timestamptz not null default clock_timestamp())`,
  );
  for (const { sql, name } of migrations.slice(0, version)) {
    await db.query(renderSql(sql, namesFor('sluice')));
    await db.query(
      `insert into sluice.migrations (version, name, compatible_from) values ($1::text::int, $2, $1::text::int)`,
      [name.slice(0, 4), name],
    );
  }
}

test('from version 1: streams deleted there go on losing their rows, and no other stream does', async () => {
  await installed(1);
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

test('from version 7: a broadcast without an audience is still one call, and not two that it could mean', async () => {
  await installed(7);
  await db.query(
    `create function sluice.broadcast(p_stream text, p_data json, p_type text default null) returns void
     language sql as 'select'`,
  );
  expect(await migrate({ connectionString: db.connectionString })).toEqual({ from: 7, to: SCHEMA_VERSION });
  await db.query(`select sluice.broadcast('room', '1'), sluice.broadcast('room', '2', p_type => 'note')`);
  const { rows } = await db.query(
    'select type, visible_to, exclude, data from sluice.ephemerals order by id',
  );
  expect(rows).toEqual([
    { type: null, visible_to: null, exclude: null, data: 1 },
    { type: 'note', visible_to: null, exclude: null, data: 2 },
  ]);
});

test('from version 12: what a group gave up, and was moved back behind since, is not handed out twice when requeued', async () => {
  await installed(12);
  await db.query(
    `with s as (insert into sluice.streams (name) values ('moved') returning id),
       g as (insert into sluice.groups (stream_id, name) select id, 'g' from s returning id, stream_id),
       t as (insert into sluice.group_states (group_id, seq, "offset", next_at, mark_at, mark_offset, last_mark_at, last_mark_offset)
         select id, 1, 0, now(), now(), 0, now(), 0 from g),
       d as (insert into sluice.dead_letters (group_id, "offset", attempts, at, tag, data) select id, 1, 1, now(), 1, '1' from g)
     insert into sluice.events (stream_id, "offset", at, tag, size, data) select stream_id, 1, now(), 1, 1, '1' from g`,
  );
  expect(await migrate({ connectionString: db.connectionString })).toEqual({ from: 12, to: SCHEMA_VERSION });
  const { rows } = await db.query('select sluice.requeue_dead(id)::int as requeued from sluice.groups');
  expect(rows).toEqual([{ requeued: 1 }]);
  expect((await db.query('select from sluice.pieces')).rowCount).toBe(0);
});
