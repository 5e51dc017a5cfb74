// Whether published events move on: how long they wait in the outbox, who has the relay role, and what could not be
// delivered.
import { escapeIdentifier, type Client } from 'pg';
import { bad, duration, ok, warn, type Finding } from './finding.ts';
import { oneRow } from './probe.ts';

/** Rows counted or looked at; more is "at least". */
const MAX_ROWS = 1000;
const SLOW_S = 5;
const STUCK_S = 60;

export async function examineOutbox(client: Client, schema: string): Promise<Finding> {
  const { rows, age } = await oneRow<{ rows: number; age: number | null }>(
    client,
    `select count(*)::int as rows, extract(epoch from clock_timestamp() - min(o.published_at))::float8 as age
     from (select published_at from ${escapeIdentifier(schema)}.outbox limit ${MAX_ROWS}) o`,
  );
  if (age === null) return ok('outbox', 'empty');
  const message = `${atLeast(rows)} published events wait to be moved, the oldest for ${duration(age)}`;
  const remedy = 'keep a process connected that may relay (relay: true, the default), and see its log';
  if (age > STUCK_S) return bad('outbox', message, remedy);
  return age > SLOW_S ? warn('outbox', message, remedy) : ok('outbox', message);
}

export async function examineUndeliverable(client: Client, schema: string): Promise<Finding> {
  const { rows } = await oneRow<{ rows: number }>(
    client,
    `select count(*)::int as rows from (select from ${escapeIdentifier(schema)}.undeliverable limit ${MAX_ROWS}) u`,
  );
  if (rows === 0) return ok('undeliverable', 'none');
  const message = `${atLeast(rows)} published events whose stream was closed or deleted before they were moved`;
  const remedy =
    'look at them with `sluice undeliverable ls`; publish them to another stream, or remove them with `sluice undeliverable drop`';
  return warn('undeliverable', message, remedy);
}

const atLeast = (rows: number): string => (rows < MAX_ROWS ? String(rows) : `${MAX_ROWS} or more`);

interface Holder {
  readonly pid: number;
  readonly address: string | null;
  readonly seconds: number | null;
}

// The role is a session lock of a listener's; its key is the library's (namesFor in src/db/names.ts), and a test holds
// the two together.
const holders = `
  with role as (
    select ('x' || encode(substr(sha256(convert_to('sluice role ' || $1, 'UTF8')), 1, 8), 'hex'))::bit(64)::bigint as key
  )
  select l.pid, host(a.client_addr) as address, extract(epoch from clock_timestamp() - a.backend_start)::float8 as seconds
  from role join pg_locks l
    on l.classid::bigint = (role.key >> 32) & 4294967295 and l.objid::bigint = role.key & 4294967295
  left join pg_stat_activity a on a.pid = l.pid
  where l.locktype = 'advisory' and l.objsubid = 1 and l.granted
    and l.database = (select oid from pg_database where datname = current_database())`;

export async function examineRelay(client: Client, schema: string): Promise<Finding> {
  const { rows } = await client.query<Holder>(holders, [schema]);
  const [holder] = rows;
  if (holder === undefined) {
    const remedy =
      'fine while no process of yours is connected; else see their logs, and that one has relay: true';
    return warn('relay', 'nobody has the role: published events wait', remedy);
  }
  const { pid, address, seconds } = holder;
  const since = seconds === null ? '' : `, connected for ${duration(seconds)}`;
  return ok('relay', `held by server process ${pid} (${address ?? 'local'}${since})`);
}
