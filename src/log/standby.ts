// What makes a server a standby of our primary: the cluster's own number, which physical replication keeps and nothing
// else does, the database in it, and that it is in recovery: once promoted, its history is its own.
import type { Database } from '../db/database.ts';

const identity = `(select system_identifier::text from pg_control_system()) || '/' || (
  select oid::text from pg_database where datname = current_database()
)`;

/** A condition of a statement: it runs on a standby of the database that the parameter names. */
export const isStandbyOf = (parameter: string): string =>
  `pg_is_in_recovery() and ${identity} = ${parameter}::text`;

/** The same on a primary and on its standbys. */
export async function databaseIdentity(
  database: Database,
): Promise<{ readonly identity: string; readonly inRecovery: boolean }> {
  const rows = await database.query<{ identity: string; inRecovery: boolean }>(
    `select ${identity} as identity, pg_is_in_recovery() as "inRecovery"`,
  );
  return rows[0] as { identity: string; inRecovery: boolean };
}
