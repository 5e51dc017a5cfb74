// Owns one attempt to run the server of a cluster on a port: from the start of the process to the first connection, or
// to the reason why not. Leaves no process behind when it fails.
import { closeSync } from 'node:fs';
import { join } from 'node:path';
import type { Cluster, StartContext } from './cluster.ts';
import { dataArgument } from './data-folder.ts';
import { startGuarded, type Guard } from './guard.ts';
import { isPortFree } from './port.ts';
import { waitUntilReady } from './ready.ts';
import { alreadyRuns, ownerSetting, runningServer } from './running-server.ts';
import { settingArguments } from './settings.ts';

/** The port was taken between the choice of it and the server's start. */
export class PortTaken extends Error {
  constructor(port: number, cause?: Error) {
    super(
      `Port ${port} on 127.0.0.1 is in use by another program: stop that, or choose another port (none means a free one).`,
      { cause },
    );
  }
}

export const connectionStringOf = ({ memory }: Cluster, port: number): string =>
  `postgres://postgres:${memory.password}@127.0.0.1:${port}/postgres`;

const spawnServer = (
  { account, binaries, log }: StartContext,
  cluster: Cluster,
  settings: readonly string[],
): Guard => {
  const data = dataArgument(cluster.path, account);
  log.begin();
  try {
    return startGuarded({
      command: join(binaries.dir, 'postgres'),
      args: ['-D', data.argument, ...settings, '-c', ownerSetting(process.pid)],
      account,
      logFd: log.fd,
      folderFd: data.fd,
      remove: cluster.temporary ? { folder: cluster.path, when: 'always' } : undefined,
    });
  } finally {
    if (data.fd !== undefined) closeSync(data.fd);
  }
};

/** Why the server ended before anyone could connect. */
const reasonOfEnd = async (
  context: StartContext,
  cluster: Cluster,
  port: number,
  code: number | null,
): Promise<Error> => {
  const { binaries, log } = context;
  const other = runningServer(cluster.path);
  if (other !== undefined) return alreadyRuns(cluster.path, other);
  const failure = new Error(
    `PostgreSQL ${binaries.version} ended with exit code ${code} instead of starting on port ${port} ` +
      `with the data in ${cluster.path}. The end of its log:\n${log.tail()}\n` +
      'Mend what it names, or set DATABASE_URL to a server of yours.',
  );
  return (await isPortFree(port)) ? failure : new PortTaken(port, failure);
};

/** @throws PortTaken, or Error with the end of the server's log */
export const launch = async (
  context: StartContext,
  cluster: Cluster,
  settings: Readonly<Record<string, string>>,
  port: number,
): Promise<Guard> => {
  const { binaries, log, signal } = context;
  const guard = spawnServer(context, cluster, settingArguments(settings, port));
  try {
    await waitUntilReady(connectionStringOf(cluster, port), () => guard.exit !== undefined, signal);
  } catch (error) {
    guard.end();
    await guard.exited;
    signal?.throwIfAborted();
    throw new Error(
      `PostgreSQL ${binaries.version} started on port ${port} with the data in ${cluster.path}, but ` +
        `${(error as Error).message}. The end of its log:\n${log.tail()}`,
      { cause: error },
    );
  }
  if (guard.exit === undefined) return guard;
  throw await reasonOfEnd(context, cluster, port, guard.exit.code);
};
