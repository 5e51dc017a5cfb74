// Owns the question whether a server runs in a data folder, and whose it is. postmaster.pid alone does not say: its
// process may be gone, and its number may long be another program's, which makes PostgreSQL itself refuse to start.
// Nothing is signalled or removed on the word of that file: the process must be a PostgreSQL server in that folder.
import { execFileSync } from 'node:child_process';
import { readFileSync, readlinkSync, realpathSync, statSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { childEnvironment } from './environment.ts';

const recheckMs = 20;
const stopBoundMs = 15_000;

export interface RunningServer {
  readonly pid: number;
  /** The process that started it, when it was one of ours. */
  readonly owner: number | undefined;
}

/** The setting that tells a server's owner from outside; read from its command line. */
export const ownerSetting = (pid: number): string => `sluice.owner=${pid}`;

export const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
};

const read = (path: string): string | undefined => {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
};

/** The command line of process `pid` if it is a PostgreSQL server in `dataDir` that runs as the folder's owner. */
const commandLine = (pid: number, dataDir: string): string | undefined => {
  try {
    const { uid } = statSync(dataDir);
    if (process.platform === 'linux') {
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
      const isServer = read(`/proc/${pid}/comm`)?.startsWith('postgres') === true;
      const isThere = readlinkSync(`/proc/${pid}/cwd`) === realpathSync(dataDir);
      return isServer && isThere && statSync(`/proc/${pid}`).uid === uid ? command : undefined;
    }
    const args = ['-ww', '-o', 'uid=', '-o', 'args=', '-p', String(pid)];
    const line = execFileSync('ps', args, { encoding: 'utf8', env: childEnvironment() }).trim();
    const isThere = Number.parseInt(line, 10) === uid && line.includes('postgres') && line.includes(dataDir);
    return isThere ? line : undefined;
  } catch {
    return undefined;
  }
};

const pidFile = (dataDir: string): string => join(dataDir, 'postmaster.pid');

const pidIn = (text: string | undefined): number => Math.abs(Number.parseInt(text ?? '', 10)) || 0;

/** The server that runs in `dataDir`, if one does. */
export const runningServer = (dataDir: string): RunningServer | undefined => {
  const pid = pidIn(read(pidFile(dataDir)));
  if (pid === 0 || !isAlive(pid)) return undefined;
  const command = commandLine(pid, dataDir);
  if (command === undefined) return undefined;
  const owner = /sluice\.owner=(\d+)/.exec(command)?.[1];
  return { pid, owner: owner === undefined ? undefined : Number(owner) };
};

export const signalServer = ({ pid }: RunningServer, signal: NodeJS.Signals): void => {
  try {
    process.kill(pid, signal);
  } catch {
    // Gone in this instant.
  }
};

/** Shuts a server down that has no guard any more: fast, then at once. Resolves when its process has ended. */
export const stopServer = async (dataDir: string): Promise<void> => {
  const server = runningServer(dataDir);
  if (server === undefined) return;
  const startedAt = performance.now();
  while (commandLine(server.pid, dataDir) !== undefined) {
    const elapsed = performance.now() - startedAt;
    if (elapsed > stopBoundMs) {
      throw new Error(
        `The server in ${dataDir} (pid ${server.pid}) does not stop: end it with kill -9 ${server.pid}.`,
      );
    }
    signalServer(server, elapsed > stopBoundMs / 2 ? 'SIGQUIT' : 'SIGINT');
    await delay(recheckMs);
  }
};

/** The error for a folder in which a server runs. */
export const alreadyRuns = (dataDir: string, { pid, owner }: RunningServer): Error =>
  new Error(
    `A PostgreSQL server already runs in ${dataDir} (pid ${pid}${owner === undefined ? '' : `, started by process ${owner}`}): ` +
      'use that one, stop it, or use another folder.',
  );

/**
 * Makes sure that no server runs in `dataDir`. One whose owner was killed is going down already, or is stopped here.
 *
 * @throws Error when a server runs there by right
 */
export const vacate = async (dataDir: string): Promise<void> => {
  const server = runningServer(dataDir);
  if (server === undefined) removeMisleadingPidFile(dataDir);
  else if (server.owner === undefined || isAlive(server.owner)) throw alreadyRuns(dataDir, server);
  else await stopServer(dataDir);
};

/** Removes a postmaster.pid whose number has become another program's. Other stale ones PostgreSQL handles itself. */
const removeMisleadingPidFile = (dataDir: string): void => {
  const before = read(pidFile(dataDir));
  const pid = pidIn(before);
  if (pid === 0 || !isAlive(pid) || runningServer(dataDir) !== undefined) return;
  // A server that started meanwhile has written its own.
  if (read(pidFile(dataDir)) === before) unlinkSync(pidFile(dataDir));
};
