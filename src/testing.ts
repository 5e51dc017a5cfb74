// The entry point `sluice/testing`: databases for tests, ours and those of users, on a server that is started for them.
// Must never be imported by code that runs in production.
// Exports only; the work is done in src/embedded.
export {
  createTestDatabase,
  startTestPostgres,
  type TestDatabase,
  type TestDatabaseOptions,
} from './embedded/test-database.ts';
