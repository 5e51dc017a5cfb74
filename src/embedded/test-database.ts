// Owns databases for tests: a new one per call, on one temporary server per process that is started by the first call,
// or on the server that SLUICE_TEST_DATABASE_URL names. That server is tuned to forget: never for data worth keeping.
import { randomBytes } from 'node:crypto';
import { Client, escapeIdentifier } from 'pg';
import { startPostgres, type RunningPostgres, type StartPostgresOptions } from './server.ts';

/**
 * `synchronous_commit` stays on: without it logical decoding sees nothing until the WAL happens to be flushed, and
 * with fsync off it costs nothing.
 */
const testSettings: Readonly<Record<string, string>> = {
  fsync: 'off',
  full_page_writes: 'off',
  synchronous_commit: 'on',
  wal_level: 'logical',
  max_connections: '300',
  max_prepared_transactions: '20',
  jit: 'off',
};

export interface TestDatabaseOptions {
  /** A database of the same server to copy. Nobody may be connected to it. Default: an empty database. */
  readonly template?: string | undefined;
}

export interface TestDatabase extends AsyncDisposable {
  readonly connectionString: string;
  /** Ends its connections and removes it. May be called again. */
  drop(): Promise<void>;
}

/**
 * A temporary server with the settings of the shared one. For the global set-up of a test runner: put its
 * `connectionString` into SLUICE_TEST_DATABASE_URL before the workers start, and they share it.
 */
export const startTestPostgres = (
  options: Omit<StartPostgresOptions, 'dataDir'> = {},
): Promise<RunningPostgres> =>
  startPostgres({ ...options, settings: { ...testSettings, ...options.settings } });

let shared: Promise<RunningPostgres> | undefined;

const sharedServer = (): Promise<RunningPostgres> => {
  shared ??= startTestPostgres().catch((error: unknown) => {
    // What was wrong may be mended by the next call.
    shared = undefined;
    throw error;
  });
  return shared;
};

const serverUrl = async (): Promise<string> => {
  const given = process.env['SLUICE_TEST_DATABASE_URL'] ?? '';
  return given === '' ? (await sharedServer()).connectionString : given;
};

const asAdministrator = async (
  connectionString: string,
  work: (client: Client) => Promise<void>,
): Promise<void> => {
  const client = new Client({ connectionString });
  // One that is lost says so in an event as well, which unheard would end the process; the statement fails for it.
  client.on('error', () => {});
  await client.connect();
  try {
    await work(client);
  } finally {
    await client.end();
  }
};

/** Copying files is twice as fast as writing the copy to the WAL; before 15 there is no choice, and it copies files. */
const createStatement = (name: string, template: string | undefined, serverVersion: number): string =>
  `create database ${escapeIdentifier(name)}` +
  (template === undefined ? '' : ` template ${escapeIdentifier(template)}`) +
  (serverVersion >= 150_000 ? ' strategy file_copy' : '');

/**
 * Creates a database for one test or test file, on a PostgreSQL server that the first call starts and that goes away
 * with this process. With SLUICE_TEST_DATABASE_URL set, on that server (its user must be allowed to create databases).
 *
 * @throws Error when no server can be started or the template does not exist
 * @example
 * await using database = await createTestDatabase();
 * const pool = new Pool({ connectionString: database.connectionString });
 */
export const createTestDatabase = async ({ template }: TestDatabaseOptions = {}): Promise<TestDatabase> => {
  const server = await serverUrl();
  const name = `sluice_test_${randomBytes(8).toString('hex')}`;
  await asAdministrator(server, async (client) => {
    const { rows } = await client.query<{ version: number }>(
      `select current_setting('server_version_num')::int as version`,
    );
    await client.query(createStatement(name, template, rows[0]!.version));
  });
  const url = new URL(server);
  url.pathname = `/${name}`;
  const drop = (): Promise<void> =>
    asAdministrator(server, async (client) => {
      await client.query(`drop database if exists ${escapeIdentifier(name)} with (force)`);
    });
  return { connectionString: url.href, drop, [Symbol.asyncDispose]: drop };
};
