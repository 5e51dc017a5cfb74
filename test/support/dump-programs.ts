// Owns finding pg_dump and pg_restore, which no npm package has, and the server binaries of the same major version: a
// pg_dump refuses a newer server. As root on Debian it installs them; elsewhere, without them, the tests are skipped with
// the remedy, and fail where CI is set.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'vitest';
import { installPackage } from './debian.ts';
import { binariesOf, majors, type Major } from './postgres-versions.ts';

export interface DumpPrograms {
  readonly dump: string;
  readonly restore: string;
  /** The folder of a server's programs, of the same major version. */
  readonly server: string;
}

const remedy = 'install PostgreSQL with its clients, or put pg_dump and pg_restore on PATH';

const folders = (): string[] => {
  const debian = '/usr/lib/postgresql';
  const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : [];
  const path = (process.env['PATH'] ?? '').split(':').filter((folder) => folder.startsWith('/'));
  return [...versions.map((version) => join(debian, version, 'bin')), ...path];
};

const fromNpm = (major: Major): string | undefined => {
  try {
    return binariesOf(major);
  } catch {
    return undefined;
  }
};

const find = (): DumpPrograms | undefined => {
  for (const folder of folders()) {
    const [dump, restore] = [join(folder, 'pg_dump'), join(folder, 'pg_restore')];
    if (!existsSync(dump) || !existsSync(restore)) continue;
    const major = Number(/\d+/.exec(spawnSync(dump, ['--version'], { encoding: 'utf8' }).stdout)?.[0]);
    if (!majors.includes(major as Major)) continue;
    const beside = existsSync(join(folder, 'postgres')) && existsSync(join(folder, 'initdb'));
    const server = beside ? folder : fromNpm(major as Major);
    if (server !== undefined) return { dump, restore, server };
  }
  return undefined;
};

/** Skips the test where there are none. */
export const requireDumpPrograms = (context: TestContext): DumpPrograms => {
  const found = find() ?? (installPackage('postgresql-client') ? find() : undefined);
  if (found !== undefined) return found;
  if (process.env['CI']) throw new Error(`no pg_dump for the tests of dump and restore: ${remedy}`);
  process.stderr.write(`dump and restore: SKIPPED (no pg_dump found; ${remedy})\n`);
  return context.skip('no pg_dump');
};
