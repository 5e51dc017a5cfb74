// Owns the database of a test file: cloned from the migrated template before its first test, dropped after its last.
// Notifications, advisory locks and statistics are private to a database, so files cannot disturb each other.
// Before dropping it looks for sessions that the code under test left open: who opened them must close them (I11).
import { Pool, type QueryResult, type QueryResultRow } from 'pg';
import { createTestDatabase } from 'sluice/testing';
import { beforeAll } from 'vitest';
import { until } from './diagnostics.ts';

export interface Database {
  readonly connectionString: string;
  /** A small pool for the test's own statements. */
  readonly pool: Pool;
  query<R extends QueryResultRow = QueryResultRow>(
    text: string,
    values?: readonly unknown[],
  ): Promise<QueryResult<R>>;
}

export interface DatabaseOptions {
  /** False: an empty database, for tests of migration itself. Default true. */
  readonly migrated?: boolean | undefined;
  /** For files that leave sessions behind on purpose (killed processes, stalled proxies). Default false. */
  readonly allowOpenSessions?: boolean | undefined;
}

const applicationName = 'test file';

/** Sessions in the database of `pool` that are not its own, as text; null when there is none. */
export const openSessions = async (pool: Pool): Promise<string | null> => {
  const { rows } = await pool.query<{ sessions: string | null }>(
    `select string_agg(format('%s %s %s: %s', pid, application_name, state, left(query, 200)), e'\\n') as sessions
     from pg_stat_activity
     where datname = current_database() and backend_type = 'client backend' and application_name <> $1`,
    [applicationName],
  );
  return rows[0]?.sessions ?? null;
};

const assertNoneLeft = async (pool: Pool): Promise<void> => {
  // A closed connection's backend takes a moment to be gone.
  await until(async () => (await openSessions(pool)) === null, { deadlineMs: 20_000 }).catch(async () => {
    const left = await openSessions(pool);
    if (left !== null) throw new Error(`the test file left sessions open in its database:\n${left}`);
  });
};

/**
 * Gives the test file a database of its own, from its first test on. Call it once, at the top of the file or of a
 * `describe`; the members may be used inside hooks and tests.
 *
 * @example
 * const db = useDatabase();
 * test('…', async () => {
 *   await using sluice = await connect({ connectionString: db.connectionString });
 *   await db.query('select 1');
 * });
 */
export const useDatabase = ({
  migrated = true,
  allowOpenSessions = false,
}: DatabaseOptions = {}): Database => {
  let opened: { readonly connectionString: string; readonly pool: Pool } | undefined;
  const get = (): NonNullable<typeof opened> => {
    if (opened === undefined) throw new Error('the database exists only inside hooks and tests');
    return opened;
  };

  beforeAll(async () => {
    const template = migrated ? process.env['SLUICE_TEST_TEMPLATE'] : undefined;
    const database = await createTestDatabase({ template });
    const { connectionString } = database;
    const pool = new Pool({ connectionString, max: 4, application_name: applicationName });
    // Tests kill backends; an idle client's error must not end the worker.
    pool.on('error', () => {});
    opened = { connectionString, pool };
    return async () => {
      try {
        if (!allowOpenSessions) await assertNoneLeft(pool);
      } finally {
        await pool.end();
        await database.drop();
      }
    };
  });

  return {
    get connectionString() {
      return get().connectionString;
    },
    get pool() {
      return get().pool;
    },
    query: (text, values) => get().pool.query(text, values as unknown[]),
  };
};
