// Brings a database to the schema of this package: numbered migrations (forward only, immutable once released), then
// the functions. One process at a time, under an advisory lock, with a lock_timeout so that it never queues behind a
// long transaction with everybody else behind it. Grants nothing to PUBLIC.
import { createHash } from 'node:crypto';
import { Client } from 'pg';
import { SluiceError } from '../util/errors.ts';
import { grantAgain, rightsHeld, type Holder } from './keep-rights.ts';
import { namesFor, renderSql, type Names } from './names.ts';
import { checkSchema, checkServer, installedVersion } from './schema-version.ts';
import type { PoolLike, Queryable } from './queryable.ts';
import { functionSql, migrationSql } from './sql.generated.ts';
import { translated } from './sqlstate.ts';

/** How long a migration waits for a lock; it fails then, instead of holding up everybody behind it. */
const LOCK_TIMEOUT_MS = 10_000;
const CONNECT_TIMEOUT_MS = 10_000;

interface Migration {
  readonly version: number;
  readonly name: string;
  readonly sql: string;
  /** The oldest schema version whose package still works on a database that has this migration. */
  readonly compatibleFrom: number;
}

export const migrations: readonly Migration[] = Object.entries(migrationSql).map(([name, sql]) => {
  const version = Number(name.slice(0, 4));
  return {
    version,
    name,
    sql,
    compatibleFrom: Number(/^-- compatible-from: (\d+)$/m.exec(sql)?.[1] ?? version),
  };
});

/** The schema version of this package. */
export const SCHEMA_VERSION: number = migrations.at(-1)?.version ?? 0;

const functionsText = (names: Names): string =>
  Object.values(functionSql)
    .map((sql) => renderSql(sql, names))
    .join('\n');

const privileges = (names: Names): string =>
  `revoke all on schema ${names.quoted} from public;\n` +
  `revoke all on all tables in schema ${names.quoted} from public;\n` +
  `revoke execute on all functions in schema ${names.quoted} from public;\n`;

const bookkeeping = (names: Names): string =>
  `create schema if not exists ${names.quoted};\n` +
  `create table if not exists ${names.quoted}.migrations (\n` +
  '  version integer primary key,\n  name text not null,\n  compatible_from integer not null,\n' +
  '  functions_hash text,\n  applied_at timestamptz not null default clock_timestamp()\n);\n';

const recorded = (names: Names, { version, name, compatibleFrom }: Migration): string =>
  `insert into ${names.quoted}.migrations (version, name, compatible_from) values (${version}, '${name}', ${compatibleFrom});\n`;

/** Everything `migrate` would run on an empty database, for review or for another tool to run. */
export function printMigrations(schema: string): string {
  const names = namesFor(schema);
  const steps = migrations.map((migration) => renderSql(migration.sql, names) + recorded(names, migration));
  return [
    'begin;\n',
    bookkeeping(names),
    ...steps,
    functionsText(names),
    privileges(names),
    'commit;\n',
  ].join('\n');
}

/**
 * Applies what is missing and returns the schema versions before and after. Functions are applied again only to a
 * database of this package's own version, so that two packages in a rolling deploy do not replace each other's.
 *
 * @throws SluiceError schema_mismatch if the database has a newer schema that this package cannot work with
 */
async function applyMigrations(
  client: Queryable,
  schema: string,
  lockTimeoutMs: number = LOCK_TIMEOUT_MS,
): Promise<{ from: number; to: number }> {
  const names = namesFor(schema);
  await checkServer(client);
  // What another process installed while this one waited must be seen after the wait, whatever the database's default.
  await run(client, 'begin isolation level read committed');
  try {
    await run(client, `set local lock_timeout = ${lockTimeoutMs}`);
    await run(client, `select pg_advisory_xact_lock(${names.migrateKey})`);
    const from = (await installedVersion(client, names))?.version ?? 0;
    const held = from <= SCHEMA_VERSION ? await rightsHeld(client, names) : [];
    if (from < SCHEMA_VERSION) {
      if (from === 0) await run(client, bookkeeping(names));
      for (const migration of migrations.filter(({ version }) => version > from)) {
        await run(client, renderSql(migration.sql, names));
        await run(client, recorded(names, migration));
      }
    }
    if (from <= SCHEMA_VERSION) await applyFunctions(client, names, held);
    else await checkSchema(client, names, SCHEMA_VERSION);
    await run(client, 'commit');
    return { from, to: Math.max(from, SCHEMA_VERSION) };
  } catch (error) {
    await run(client, 'rollback').catch(() => {}); // the first error is the one to report
    throw isLockTimeout(error) ? waitedTooLong(lockTimeoutMs, error) : error;
  }
}

async function applyFunctions(client: Queryable, names: Names, held: readonly Holder[]): Promise<void> {
  const text = functionsText(names);
  const hash = createHash('sha256').update(text).digest('hex');
  const { rows } = await client.query({
    text: `select functions_hash as hash from ${names.quoted}.migrations where version = $1`,
    values: [SCHEMA_VERSION],
  });
  if ((rows[0] as { hash: string | null } | undefined)?.hash === hash) return;
  await run(client, text);
  await run(client, privileges(names));
  await grantAgain(client, names, held);
  await client.query({
    text: `update ${names.quoted}.migrations set functions_hash = $1 where version = $2`,
    values: [hash, SCHEMA_VERSION],
  });
}

const run = (client: Queryable, text: string): Promise<unknown> => client.query({ text });

export interface MigrateTarget {
  readonly connectionString: string | undefined;
  readonly pool: PoolLike | undefined;
  readonly schema: string;
  readonly lockTimeoutMs?: number | undefined;
}

/** Migrates over a connection of its own, from a connection string or a pool. */
export async function migrateDatabase(target: MigrateTarget): Promise<{ from: number; to: number }> {
  const { connectionString, pool, schema, lockTimeoutMs } = target;
  return translated(async () => {
    if (pool) {
      const client = await pool.connect();
      try {
        return await applyMigrations(client, schema, lockTimeoutMs);
      } finally {
        client.release();
      }
    }
    const client = new Client({
      connectionString,
      application_name: 'sluice migrate',
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    });
    client.on('error', () => {}); // a loss while idle also fails the next statement, which reports it
    try {
      await client.connect();
      return await applyMigrations(client, schema, lockTimeoutMs);
    } finally {
      await client.end();
    }
  });
}

const isLockTimeout = (error: unknown): boolean =>
  typeof error === 'object' && error !== null && 'code' in error && error.code === '55P03';

const waitedTooLong = (ms: number, cause: unknown): SluiceError =>
  new SluiceError(
    'overloaded',
    `the migration waited ${ms / 1000} s for a lock that another transaction holds; end it, or migrate again later`,
    { cause },
  );
