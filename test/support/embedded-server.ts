// Owns what tests of the embedded Postgres look at a server with: its processes, its answers, its failures. And where
// its data goes: into memory where there is plenty, because a new cluster is a thousand files that nobody will keep.
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, realpathSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from 'pg';
import { startPostgres, type RunningPostgres, type StartPostgresOptions } from 'sluice/embedded';
import { expect } from 'vitest';

const plentyBytes = 4 * 2 ** 30;

const memory = (): string => {
  try {
    const { bavail, bsize } = statfsSync('/dev/shm');
    return bavail * bsize > plentyBytes ? '/dev/shm' : tmpdir();
  } catch {
    return tmpdir();
  }
};

const makeFolder = (base: string): string => {
  const folder = realpathSync(mkdtempSync(join(base, 'sluice-test-')));
  chmodSync(folder, 0o1777);
  return folder;
};

/** A folder for data that everybody may use like /tmp. Programs may not be runnable in it. */
export const makeDataFolder = (): string => makeFolder(memory());

/** A folder for programs that everybody may use like /tmp. */
export const makeProgramFolder = (): string => makeFolder(tmpdir());

export const removeFolder = (folder: string): void => rmSync(folder, { recursive: true, force: true });

/** Names that were not used yet, in a folder. */
export const pathsIn = (folder: () => string): (() => string) => {
  let count = 0;
  return () => join(folder(), `n${(count += 1)}`);
};

/** Never waits for the disk: no test of these depends on it. */
export const fast: StartPostgresOptions = { settings: { fsync: 'off' } };

export const start = (options: StartPostgresOptions = {}): Promise<RunningPostgres> =>
  startPostgres({ ...options, settings: { ...fast.settings, ...options.settings } });

/** The message that a start fails with. */
export const failure = async (attempt: Promise<RunningPostgres>): Promise<string> => {
  const outcome = await attempt.then(
    async (postgres) => {
      await postgres.stop();
      return undefined;
    },
    (error: unknown) => error as Error,
  );
  expect(outcome).toBeInstanceOf(Error);
  return outcome!.message;
};

export const query = async (connectionString: string, text: string): Promise<Record<string, unknown>[]> => {
  const client = new Client({ connectionString });
  client.on('error', () => {});
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(text)).rows;
  } finally {
    await client.end();
  }
};

export const serverPid = (dataDir: string): number =>
  Number.parseInt(readFileSync(join(dataDir, 'postmaster.pid'), 'utf8'), 10);

const processes = (): readonly { pid: number; parent: number; isZombie: boolean }[] =>
  execFileSync('ps', ['-A', '-o', 'pid=,ppid=,stat='], { encoding: 'utf8' })
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .map(([pid, parent, state]) => ({
      pid: Number(pid),
      parent: Number(parent),
      isZombie: state!.startsWith('Z'),
    }));

/** A process that has ended and only waits to be noticed by its parent counts as gone. */
export const isAlive = (pid: number): boolean =>
  processes().some((each) => each.pid === pid && !each.isZombie);

/** The server of a data folder and all that works for it, the server first. */
export const serverPids = (dataDir: string): number[] => {
  const server = serverPid(dataDir);
  return [server, ...processes().flatMap(({ pid, parent }) => (parent === server ? [pid] : []))];
};

/** The process above the server of a data folder. */
export const guardPid = (dataDir: string): number =>
  processes().find(({ pid }) => pid === serverPid(dataDir))!.parent;

/** The guard and what works for it, without the server. */
export const guardPids = (dataDir: string): number[] => {
  const guard = guardPid(dataDir);
  const server = serverPid(dataDir);
  return [
    guard,
    ...processes().flatMap(({ pid, parent }) => (parent === guard && pid !== server ? [pid] : [])),
  ];
};
