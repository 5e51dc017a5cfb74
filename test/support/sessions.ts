// Owns waiting for what other sessions of the test's database have done, as pg_stat_activity tells it: the server's side
// of the story, when the client's side is held up on purpose.
import type { Pool } from 'pg';
import { until } from './diagnostics.ts';

export const serverTime = async (pool: Pool): Promise<string> => {
  const { rows } = await pool.query<{ now: string }>('select clock_timestamp()::text as now');
  return rows[0]!.now;
};

export interface Statement {
  readonly application: string;
  /** How its text looks, as a pattern of `like`. */
  readonly text: string;
  /** It began after this. */
  readonly since: string;
}

/** Resolves when the server has answered such a statement. */
export const answered = (pool: Pool, { application, text, since }: Statement): Promise<void> =>
  until(async () => {
    const { rowCount } = await pool.query(
      `select from pg_stat_activity where datname = current_database() and state = 'idle'
         and application_name = $1 and query like $2 and query_start > $3`,
      [application, text, since],
    );
    return (rowCount ?? 0) > 0;
  });

/**
 * Resolves when Sluice's only listener in this database has certainly seen all notifications sent before: it has made
 * two round trips since, and one ends only after they have been delivered.
 */
export const notified = async (pool: Pool): Promise<void> => {
  for (let trips = 0; trips < 2; trips += 1) {
    const since = await serverTime(pool);
    await answered(pool, { application: 'sluice listener', text: 'select %', since });
  }
};

/** How many sessions of this database wait for a lock. */
export const waitingForLocks = async (pool: Pool): Promise<number> => {
  const { rowCount } = await pool.query(
    `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
  );
  return rowCount ?? 0;
};
