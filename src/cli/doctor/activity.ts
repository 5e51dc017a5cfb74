// Transactions that stay open: each holds back the horizon of vacuum, and one that has published keeps the relay from
// sleeping. Sluice survives them; the tables around it may not.
import type { Client } from 'pg';
import { duration, ok, warn, type Finding } from './finding.ts';

const LONG_S = 300;

interface Open {
  readonly what: string;
  readonly seconds: number;
}

const statement = `
  select format('server process %s (%s, %s)', pid, coalesce(nullif(application_name, ''), 'unnamed'), state) as what,
    extract(epoch from clock_timestamp() - xact_start)::float8 as seconds
  from pg_stat_activity
  where datname = current_database() and pid <> pg_backend_pid() and (backend_xmin is not null or backend_xid is not null)
    and xact_start < clock_timestamp() - make_interval(secs => $1)
  union all
  select format('prepared transaction %L', gid), extract(epoch from clock_timestamp() - prepared)::float8
  from pg_prepared_xacts
  where database = current_database() and prepared < clock_timestamp() - make_interval(secs => $1)
  order by seconds desc limit 5`;

export async function examineTransactions(client: Client, longSeconds: number = LONG_S): Promise<Finding> {
  const { rows } = await client.query<Open>(statement, [longSeconds]);
  if (rows.length === 0) return ok('transactions', `none is open for longer than ${duration(longSeconds)}`);
  const list = rows.map(({ what, seconds }) => `${what} for ${duration(seconds)}`).join(', ');
  return warn('transactions', `open: ${list}`, 'end them: they keep vacuum from cleaning up');
}
