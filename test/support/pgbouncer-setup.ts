// Owns finding a PgBouncer, once per run, and installing Debian's when run as root there. Without one the tests that need
// it are skipped, loudly, so that a clone's `npm test` works anywhere; where CI is set a missing one is a failure.
// Workers learn its place from PGBOUNCER_PATH.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { installPackage } from './debian.ts';

const remedy = 'install pgbouncer, or set PGBOUNCER_PATH to its executable';

/** Debian puts it where only root's PATH leads. */
const folders = (): string[] =>
  [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin'].filter((folder) => folder.startsWith('/'));

const find = (): string | undefined => {
  const given = process.env['PGBOUNCER_PATH'];
  if (given !== undefined && !existsSync(given))
    throw new Error(`PGBOUNCER_PATH names ${given}, which does not exist`);
  return (
    given ??
    folders()
      .map((folder) => join(folder, 'pgbouncer'))
      .find((path) => existsSync(path))
  );
};

export const setup = (): void => {
  const path = find() ?? (installPackage('pgbouncer') ? find() : undefined);
  if (path !== undefined) {
    process.env['PGBOUNCER_PATH'] = path;
  } else if (process.env['CI']) {
    throw new Error(`no PgBouncer for the tests of poolers: ${remedy}`);
  } else {
    process.stderr.write(`pgbouncer: SKIPPED (none found; ${remedy})\n`);
  }
};
