// Owns looking at Sluice's advisory locks in pg_locks: who holds the relay role, who keeps the relay from sleeping.
import type { Pool } from 'pg';
import { namesFor } from '../../src/db/names.ts';

export interface Lock {
  /** The backend that holds or awaits it. */
  readonly pid: number;
  readonly mode: 'ExclusiveLock' | 'ShareLock';
  readonly granted: boolean;
}

const names = namesFor('sluice');

const locksOn = async (pool: Pool, key: bigint): Promise<Lock[]> => {
  const { rows } = await pool.query<Lock>(
    `select pid, mode, granted from pg_locks
     where locktype = 'advisory' and objsubid = 1 and (classid::bigint << 32) | objid::bigint = $1
       and database = (select oid from pg_database where datname = current_database())`,
    [String(key)],
  );
  return rows;
};

/** Locks on the relay role: an exclusive one per holder. */
export const roleLocks = (pool: Pool): Promise<Lock[]> => locksOn(pool, names.roleKey);

/** Locks on the sleep: exclusive while the relay sleeps, shared by transactions that found it awake. */
export const asleepLocks = (pool: Pool): Promise<Lock[]> => locksOn(pool, names.asleepKey);
