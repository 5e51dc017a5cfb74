// Owns the one temporary Postgres of a test run, and the migrated database that every test file's own is cloned from.
// Runs once in the main process, whichever projects ask for it, and ends with the last of them. With
// SLUICE_TEST_DATABASE_URL already set it uses that server instead, which is how the tests meet other versions.
// Workers learn of it by environment: SLUICE_TEST_DATABASE_URL and SLUICE_TEST_TEMPLATE.
import { migrate } from 'sluice';
import { createTestDatabase, startTestPostgres } from 'sluice/testing';

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

const open = async (): Promise<Cluster> => {
  const server =
    process.env['SLUICE_TEST_DATABASE_URL'] === undefined ? await startTestPostgres() : undefined;
  if (server !== undefined) process.env['SLUICE_TEST_DATABASE_URL'] = server.connectionString;
  const template = await createTestDatabase();
  const stop = async (): Promise<void> => {
    delete process.env['SLUICE_TEST_TEMPLATE'];
    if (server === undefined) return template.drop();
    delete process.env['SLUICE_TEST_DATABASE_URL'];
    await server.stop();
  };
  try {
    await migrate({ connectionString: template.connectionString });
  } catch (error) {
    await stop();
    throw error;
  }
  process.env['SLUICE_TEST_TEMPLATE'] = new URL(template.connectionString).pathname.slice(1);
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
