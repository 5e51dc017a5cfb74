// Owns faults. Once: the listener's backend killed, a connection harmed at random. Until they are told to end: backends
// killed at random, outbox slots rotated, passes run from several sides. Only ever of the test file's own database.
import type { Pool } from 'pg';
import type { Queries } from './log-sql.ts';
import type { Proxy } from './proxy.ts';
import type { Random } from './seed.ts';

/** Ends the listening sessions of the database; resolves with how many there were. */
export async function killListener(on: Queries): Promise<number> {
  const { rowCount } = await on.query(
    `select pg_terminate_backend(pid) from pg_stat_activity
     where datname = current_database() and application_name = 'sluice listener'`,
  );
  return rowCount ?? 0;
}

/** Cuts or delays what goes through a proxy, in one of several ways or not at all. */
export function harm(proxy: Proxy, random: Random): void {
  random.pick([
    () => proxy.cut(),
    () => proxy.halfClose('client'),
    () => proxy.halfClose('server'),
    () => proxy.delay(random.below(3)),
    () => {},
  ])();
}

const pause = async (pool: Pool, seconds: number): Promise<void> => {
  await pool.query('select pg_sleep($1)', [seconds]);
};

/** Ends random backends of these applications until the signal; resolves with how many it ended. */
export async function killBackends(
  pool: Pool,
  random: Random,
  { applications, signal }: { readonly applications: readonly string[]; readonly signal: AbortSignal },
): Promise<number> {
  let killed = 0;
  while (!signal.aborted) {
    await pause(pool, random.next() * 0.05);
    const { rows } = await pool.query<{ pid: number }>(
      `select pid from pg_stat_activity
       where datname = current_database() and application_name = any ($1) order by pid`,
      [applications],
    );
    if (rows.length === 0) continue;
    const victims = [random.pick(rows), random.pick(rows)].map(({ pid }) => pid);
    const ended = await pool.query('select from unnest($1::integer[]) pid where pg_terminate_backend(pid)', [
      victims,
    ]);
    killed += ended.rowCount ?? 0;
  }
  return killed;
}

/** Rotates the outbox until the signal; resolves with how often a slot was free. */
export async function rotateOutbox(pool: Pool, signal: AbortSignal): Promise<number> {
  let rotated = 0;
  while (!signal.aborted) {
    await pause(pool, 0.005);
    const { rows } = await pool.query<{ slot: string | null }>('select sluice.rotate_outbox() as slot');
    if (rows[0]?.slot !== null) rotated += 1;
  }
  return rotated;
}

/** Runs small passes until the signal, and on until one finds nothing; resolves with how many were cut or skipped. */
export async function runPasses(pool: Pool, random: Random, signal: AbortSignal): Promise<number> {
  let cut = 0;
  for (let after = ''; ;) {
    const ending = signal.aborted;
    const { rows } = await pool.query<{ moved: string; more: boolean; next_after: string }>(
      'select * from sluice.pass($1, $2, $3)',
      [1 + random.below(40), 1 + random.below(4), after],
    );
    const [row] = rows;
    if (row?.more === true) cut += 1;
    else if (ending && row?.moved === '0') return cut;
    after = row?.next_after ?? '';
  }
}
