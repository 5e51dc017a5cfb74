// The server itself: what it is, and the settings that a promise of Sluice rests on.
import type { Client } from 'pg';
import { bad, ok, warn, type Finding } from './finding.ts';
import { oneRow } from './probe.ts';

const OLDEST_MAJOR = 14;
const CLOCK_TOLERANCE_MS = 5000;

interface Server {
  readonly version: string;
  readonly major: number;
  readonly encoding: string;
  readonly standby: boolean;
  readonly synchronous_commit: string;
  readonly fsync: string;
}

export async function examineServer(client: Client): Promise<Finding[]> {
  const server = await oneRow<Server>(
    client,
    `select current_setting('server_version') as version, current_setting('server_version_num')::int / 10000 as major,
       getdatabaseencoding() as encoding, pg_is_in_recovery() as standby,
       current_setting('synchronous_commit') as synchronous_commit, current_setting('fsync') as fsync`,
  );
  return [examineVersion(server), examineEncoding(server), examineRole(server), examineDurability(server)];
}

const examineVersion = ({ version, major }: Server): Finding =>
  major >= OLDEST_MAJOR
    ? ok('server', `PostgreSQL ${version}`)
    : bad('server', `PostgreSQL ${version} is too old`, `upgrade to PostgreSQL ${OLDEST_MAJOR} or newer`);

const examineEncoding = ({ encoding }: Server): Finding =>
  encoding === 'UTF8'
    ? ok('encoding', encoding)
    : bad('encoding', `the database is encoded in ${encoding}`, "use one created with encoding 'UTF8'");

const examineRole = ({ standby }: Server): Finding =>
  standby
    ? bad('primary', 'this server is a read-only standby', 'connect to the primary')
    : ok('primary', 'accepts writes');

const examineDurability = ({ synchronous_commit, fsync }: Server): Finding => {
  if (fsync === 'off') {
    return warn(
      'durability',
      'fsync is off: a crash of the machine can destroy the database',
      'set fsync to on',
    );
  }
  return synchronous_commit === 'off'
    ? warn(
        'durability',
        'synchronous_commit is off: a crash loses the last transactions, with what they published',
        'set it to on for transactions that publish (what readers have seen is safe either way)',
      )
    : ok('durability', `synchronous_commit is ${synchronous_commit}`);
};

/** Event times come from the server; other clocks are compared with it by people. */
export async function examineClock(client: Client): Promise<Finding> {
  const asked = Date.now();
  const { now } = await oneRow<{ now: number }>(
    client,
    'select (extract(epoch from clock_timestamp()) * 1000)::float8 as now',
  );
  const difference = Math.round(now - (asked + Date.now()) / 2);
  return Math.abs(difference) <= CLOCK_TOLERANCE_MS
    ? ok('clock', `within ${Math.abs(difference)} ms of this machine's`)
    : warn('clock', `${difference} ms from this machine's`, 'synchronise both clocks (NTP)');
}

/** Frees the role of a relay that is frozen or cut off. */
export async function examineIdleTimeout(client: Client): Promise<Finding> {
  try {
    await client.query(`set idle_session_timeout = 60000; set idle_session_timeout to default`);
    return ok('idle_session_timeout', 'can be set');
  } catch (error) {
    const remedy = 'let sessions set it: without it, a cut-off relay keeps its role until TCP gives up';
    return warn('idle_session_timeout', `cannot be set: ${(error as Error).message}`, remedy);
  }
}
