// The entry point `sluice/embedded`: a real PostgreSQL server for development and tests.
// Not for production: the server goes away with the process that started it.
// Exports only; the work is done in src/embedded.
export { startPostgres, type RunningPostgres, type StartPostgresOptions } from './embedded/server.ts';
