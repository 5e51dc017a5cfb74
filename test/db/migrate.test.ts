// Guards installing and upgrading: once, however many try; whole or not at all; never over what a newer package put
// there; the same by print as by migrate; and open to nobody but whom its owner lets in.
import { Pool } from 'pg';
import { migrate, printMigrations, SluiceError } from 'sluice';
import { describe, expect, test } from 'vitest';
import { migrateDatabase, SCHEMA_VERSION } from '../../src/db/migrate.ts';
import { namesFor } from '../../src/db/names.ts';
import { describeSchema, grantedToPublic } from '../support/catalog.ts';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { backendOf, isBlocked } from '../support/log-sql.ts';
import { until } from '../support/diagnostics.ts';

const db = useDatabase({ migrated: false });
const other = useDatabase({ migrated: false });

const migrated = (schema: string): Promise<{ from: number; to: number }> =>
  migrate({ connectionString: db.connectionString, schema });
const exists = async (schema: string): Promise<boolean> =>
  (await db.query('select from pg_namespace where nspname = $1', [schema])).rowCount === 1;
const refusal = async (work: Promise<unknown>): Promise<SluiceError> => {
  const error: unknown = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(SluiceError);
  return error as SluiceError;
};

describe('installing', () => {
  test('a fresh database gets the schema of this package', async () => {
    expect(await migrated('fresh')).toEqual({ from: 0, to: SCHEMA_VERSION });
    const { rows } = await db.query('select version, compatible_from from fresh.migrations order by version');
    expect(rows.at(-1)).toMatchObject({ version: SCHEMA_VERSION });
  });

  test('the second time changes nothing', async () => {
    await migrated('twice');
    const before = await describeSchema(db, 'twice');
    const written = `select xmin, oid from pg_proc where pronamespace = 'twice'::regnamespace order by oid`;
    const { rows } = await db.query(written);
    expect(await migrated('twice')).toEqual({ from: SCHEMA_VERSION, to: SCHEMA_VERSION });
    expect(await describeSchema(db, 'twice')).toEqual(before);
    expect((await db.query(written)).rows).toEqual(rows);
  });

  test.each(['read committed', 'serializable'])(
    'eight at once install it once, where the default is %s',
    async (level) => {
      const schema = `crowd of ${level}`;
      const name = new URL(db.connectionString).pathname.slice(1);
      await db.query(`alter database ${name} set default_transaction_isolation = '${level}'`);
      try {
        const all = await Promise.all(Array.from({ length: 8 }, () => migrated(schema)));
        expect(all.filter(({ from }) => from === 0)).toHaveLength(1);
        expect(all.map(({ to }) => to)).toEqual(all.map(() => SCHEMA_VERSION));
      } finally {
        await db.query(`alter database ${name} reset default_transaction_isolation`);
      }
    },
  );

  test('what it prints, run by any client, is what it does', async () => {
    await migrated('printed "by" us');
    await using client = await openClient(other.connectionString);
    await client.query(printMigrations('printed "by" us'));
    expect(await describeSchema(client, 'printed "by" us')).toEqual(
      await describeSchema(db, 'printed "by" us'),
    );
    const again = { connectionString: other.connectionString, schema: 'printed "by" us' };
    expect(await migrate(again)).toEqual({ from: SCHEMA_VERSION, to: SCHEMA_VERSION });
  });
});

describe('a lock that somebody holds', () => {
  const hurried = (schema: string, pool?: Pool): Promise<unknown> =>
    migrateDatabase({ connectionString: db.connectionString, pool, schema, lockTimeoutMs: 50 });

  test('while another one migrates, it gives up in time, and nothing is there', async () => {
    await using holder = await openClient(db.connectionString);
    await holder.query('begin');
    await holder.query('select pg_advisory_xact_lock($1)', [namesFor('held').migrateKey]);
    const error = await refusal(hurried('held'));
    expect(error).toMatchObject({ code: 'overloaded', retryable: true });
    expect(error.message).toMatch(/waited .* for a lock that another transaction holds/);
    const pool = new Pool({ connectionString: db.connectionString, max: 1 });
    expect((await refusal(hurried('held', pool))).message).toBe(error.message);
    await pool.end();
    expect(await exists('held')).toBe(false);
    await holder.query('rollback');
    expect(await migrated('held')).toEqual({ from: 0, to: SCHEMA_VERSION });
  });

  test('on a table it must write, it gives up in time, and nothing is half applied', async () => {
    await migrated('half');
    await db.query('update half.migrations set functions_hash = null');
    await db.query('drop function half.ring()');
    const before = await describeSchema(db, 'half');
    await using holder = await openClient(db.connectionString);
    await holder.query('begin');
    await holder.query('lock table half.migrations in share mode');
    expect(await refusal(hurried('half'))).toMatchObject({ code: 'overloaded' });
    expect(await describeSchema(db, 'half')).toEqual(before);
    await holder.query('rollback');
    await migrated('half');
    expect(await describeSchema(db, 'half')).not.toEqual(before);
  });

  test('it waits its turn as long as it may', async () => {
    await using holder = await openClient(db.connectionString);
    await holder.query('begin');
    await holder.query('select pg_advisory_xact_lock($1)', [namesFor('patient').migrateKey]);
    const pool = new Pool({ connectionString: db.connectionString, max: 1 });
    const pid = await backendOf(pool);
    const waiting = migrate({ connectionString: db.connectionString, pool, schema: 'patient' });
    await until(() => isBlocked(db, pid));
    await holder.query('rollback');
    expect(await waiting).toEqual({ from: 0, to: SCHEMA_VERSION });
    await pool.end();
  });
});

describe('other versions', () => {
  const addVersion = async (schema: string, compatibleFrom: number): Promise<void> => {
    await migrated(schema);
    await db.query(`insert into ${schema}.migrations values (99, '0099_future', $1)`, [compatibleFrom]);
  };
  const sourceOf = async (schema: string): Promise<string> => {
    const { rows } = await db.query<{ source: string }>(
      `select prosrc as source from pg_proc where proname = 'ring' and pronamespace = '${schema}'::regnamespace`,
    );
    return rows[0]!.source;
  };
  const replaceRing = (schema: string): Promise<unknown> =>
    db.query(`create or replace function ${schema}.ring() returns void language plpgsql as 'begin end'`);

  test('functions of this version are applied again when they have changed', async () => {
    await migrated('changed');
    const source = await sourceOf('changed');
    await replaceRing('changed');
    await db.query(`update changed.migrations set functions_hash = 'of an earlier build'`);
    await migrated('changed');
    expect(await sourceOf('changed')).toBe(source);
    expect(await grantedToPublic(db, 'changed')).toEqual([]);
  });

  test('functions of a newer version are left alone, and so is everything else', async () => {
    await addVersion('newer', 1);
    await replaceRing('newer');
    await db.query('update newer.migrations set functions_hash = null');
    expect(await migrated('newer')).toEqual({ from: 99, to: 99 });
    expect(await sourceOf('newer')).toBe('begin end');
  });

  test('a newer one that this package cannot work with is refused, with the way out', async () => {
    await addVersion('distant', 50);
    const error = await refusal(migrated('distant'));
    expect(error.code).toBe('schema_mismatch');
    expect(error.message).toMatch(/version 99.*too old.*npm install sluice@latest/);
  });
});

describe('who may do what', () => {
  test('nothing is granted to everybody, and a role of nobody’s can do nothing', async () => {
    await migrated('private');
    expect(await grantedToPublic(db, 'private')).toEqual([]);
    const role = `stranger_${new URL(db.connectionString).pathname.slice(1)}`;
    await db.query(`create role ${role}`);
    try {
      const { rows } = await db.query(
        `select o from (
           select 'schema' as o, has_schema_privilege($1, 'private', 'usage, create') as may
           union all select relname, has_table_privilege($1, c.oid, 'select, insert, update, delete, truncate, references, trigger')
           from pg_class c where relnamespace = 'private'::regnamespace and relkind in ('r', 'p')
           union all select seqrelid::regclass::text, has_sequence_privilege($1, seqrelid, 'usage, select, update')
           from pg_sequence where seqrelid in (select oid from pg_class where relnamespace = 'private'::regnamespace)
           union all select proname, has_function_privilege($1, p.oid, 'execute')
           from pg_proc p where pronamespace = 'private'::regnamespace
         ) x where may`,
        [role],
      );
      expect(rows).toEqual([]);
    } finally {
      await db.query(`drop role ${role}`);
    }
  });

  test('no function can be made to call what a caller’s search_path names', async () => {
    await migrated('pinned');
    // A body in standard SQL is bound when it is created: names in it are not looked up again.
    const { rows } = await db.query(
      `select proname from pg_proc where pronamespace = 'pinned'::regnamespace and prosqlbody is null
         and not coalesce(proconfig @> array['search_path=pg_catalog, pg_temp'], false)`,
    );
    expect(rows).toEqual([]);
  });

  test('interleaving 14: no sequence hands out private ranges, which would break the order', async () => {
    await migrated('sequences');
    const { rows } = await db.query(
      `select c.relname, s.seqcache::int as cache from pg_sequence s join pg_class c on c.oid = s.seqrelid
       where c.relnamespace = 'sequences'::regnamespace`,
    );
    expect(rows.map(({ relname }) => String(relname))).toContain('outbox_id');
    expect(rows.filter(({ cache }) => cache !== 1)).toEqual([]);
  });
});
