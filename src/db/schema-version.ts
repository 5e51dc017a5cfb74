// Whether this package can work on this server and this schema. Refuses with the command that mends it.
import { SluiceError } from '../util/errors.ts';
import type { Names } from './names.ts';
import type { Queryable } from './queryable.ts';

const OLDEST_SERVER = 14;

export interface InstalledVersion {
  readonly version: number;
  /** Packages of at least this schema version can work on the database. */
  readonly compatibleFrom: number;
}

interface ServerFacts {
  readonly major: number;
  readonly version: string;
  readonly encoding: string;
  readonly standby: boolean;
  readonly nulls: string;
}

/** @throws SluiceError unsupported_server */
export async function checkServer(client: Queryable): Promise<void> {
  const { rows } = await client.query({
    text: `select current_setting('server_version_num')::int / 10000 as major, current_setting('server_version') as version,
      getdatabaseencoding() as encoding, pg_is_in_recovery() as standby, current_setting('array_nulls') as nulls`,
  });
  const server = rows[0] as ServerFacts;
  if (server.major < OLDEST_SERVER) {
    throw new SluiceError(
      'unsupported_server',
      `this is PostgreSQL ${server.version}; Sluice needs PostgreSQL ${OLDEST_SERVER} or newer`,
    );
  }
  if (server.encoding !== 'UTF8') {
    throw new SluiceError(
      'unsupported_server',
      `the database is encoded in ${server.encoding}; Sluice needs one created with encoding 'UTF8'`,
    );
  }
  if (server.standby) {
    throw new SluiceError('unsupported_server', 'this server is a read-only standby; connect to the primary');
  }
  // An event without a key, beside one that has one, would be written with the key "NULL".
  if (server.nulls === 'off') {
    throw new SluiceError(
      'unsupported_server',
      'array_nulls is off for this user or database, so that what is null becomes text; set it to on',
    );
  }
}

/** What is installed in the schema; undefined if nothing is. */
export async function installedVersion(
  client: Queryable,
  names: Names,
): Promise<InstalledVersion | undefined> {
  const found = await client.query({
    text: 'select to_regclass($1) is not null as found',
    values: [`${names.quoted}.migrations`],
  });
  if (!(found.rows[0] as { found: boolean }).found) return undefined;
  const { rows } = await client.query({
    text: `select max(version) as version, max(compatible_from) as "compatibleFrom" from ${names.quoted}.migrations`,
  });
  const row = rows[0] as { version: number | null; compatibleFrom: number | null };
  return row.version === null
    ? undefined
    : { version: row.version, compatibleFrom: row.compatibleFrom ?? row.version };
}

/** @throws SluiceError schema_mismatch, naming the command that mends it */
export async function checkSchema(client: Queryable, names: Names, own: number): Promise<void> {
  const installed = await installedVersion(client, names);
  const where = `schema ${names.quoted}`;
  const flag = names.schema === 'sluice' ? '' : ` --schema ${JSON.stringify(names.schema)}`;
  if (!installed) {
    throw new SluiceError(
      'schema_mismatch',
      `${where} is not installed in this database; run \`npx sluice migrate${flag}\``,
    );
  }
  if (installed.version < own) {
    throw new SluiceError(
      'schema_mismatch',
      `${where} has version ${installed.version}, this package needs ${own}; run \`npx sluice migrate${flag}\``,
    );
  }
  if (installed.compatibleFrom > own) {
    throw new SluiceError(
      'schema_mismatch',
      `${where} has version ${installed.version}, which this package (version ${own}) is too old for; run \`npm install sluice@latest\``,
    );
  }
}
