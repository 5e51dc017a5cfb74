// Owns the one temporary Postgres of a test run, and the migrated database that every test file's own is cloned from.
// Runs once in the main process, whichever projects ask for it, and ends with the last of them. With
// SLUICE_TEST_DATABASE_URL already set it uses that server instead, which is how the tests meet other versions.
// Workers learn of it by environment: SLUICE_TEST_DATABASE_URL and SLUICE_TEST_TEMPLATE.
import { randomBytes } from 'node:crypto';
import { Client } from 'pg';
import { migrate } from 'sluice';
import { startPostgres } from 'sluice/embedded';

interface Cluster {
  stop(): Promise<void>;
}
interface Shared {
  users: number;
  readonly cluster: Promise<Cluster>;
}

// Each project loads this module anew, so what they share cannot be a variable of the module.
const key = Symbol.for('sluice.test.cluster');
const registry = globalThis as { [key]?: Shared | undefined };

// Nothing here outlives the run, so nothing is flushed; but commits stay synchronous, as in production, because
// code under test decides about them. Prepared transactions and logical decoding are there to be tested against.
const settings = {
  fsync: 'off',
  full_page_writes: 'off',
  synchronous_commit: 'on',
  max_connections: '300',
  max_prepared_transactions: '20',
  wal_level: 'logical',
  jit: 'off',
};

const execute = async (connectionString: string, statement: string): Promise<void> => {
  const client = new Client({ connectionString });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
};

const createTemplate = async (connectionString: string): Promise<string> => {
  const name = `sluice_template_${randomBytes(4).toString('hex')}`;
  await execute(connectionString, `create database ${name}`);
  const url = new URL(connectionString);
  url.pathname = `/${name}`;
  await migrate({ connectionString: url.href });
  return name;
};

const open = async (): Promise<Cluster> => {
  const given = process.env['SLUICE_TEST_DATABASE_URL'];
  const postgres = given === undefined ? await startPostgres({ settings }) : undefined;
  const connectionString = postgres?.connectionString ?? given!;
  const stop = async (): Promise<void> => {
    const template = process.env['SLUICE_TEST_TEMPLATE'];
    delete process.env['SLUICE_TEST_TEMPLATE'];
    if (postgres !== undefined) {
      delete process.env['SLUICE_TEST_DATABASE_URL'];
      await postgres.stop();
    } else if (template !== undefined) {
      await execute(connectionString, `drop database if exists ${template} with (force)`);
    }
  };
  try {
    process.env['SLUICE_TEST_TEMPLATE'] = await createTemplate(connectionString);
    process.env['SLUICE_TEST_DATABASE_URL'] = connectionString;
  } catch (error) {
    await stop();
    throw error;
  }
  return { stop };
};

export const setup = async (): Promise<() => Promise<void>> => {
  const shared = (registry[key] ??= { users: 0, cluster: open() });
  shared.users += 1;
  const cluster = await shared.cluster;
  return async () => {
    shared.users -= 1;
    if (shared.users > 0) return;
    registry[key] = undefined;
    await cluster.stop();
  };
};
