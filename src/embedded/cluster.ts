// Owns clusters: creating one (initdb with a random password, UTF-8 and a locale that is the same everywhere) and opening
// the lasting or temporary one a server is to run on. The password goes through pipes only. Nobody can connect without
// it at any moment. A lasting cluster is created beside its place and moved there whole (see data-folder.ts).
import { randomBytes } from 'node:crypto';
import { closeSync } from 'node:fs';
import { join } from 'node:path';
import type { Account } from './account.ts';
import type { Binaries } from './binaries.ts';
import { clusterMajor, dataArgument, moveIntoPlace, recall, remember, type Memory } from './data-folder.ts';
import { startGuarded } from './guard.ts';
import { vacate } from './running-server.ts';
import {
  makeScratchFolder,
  removeScratchFolder,
  sweepScratchFolders,
  temporaryBases,
} from './scratch-folder.ts';
import type { ServerLog } from './server-log.ts';

/** What every step of a start needs. */
export interface StartContext {
  readonly account: Account | undefined;
  readonly binaries: Binaries;
  readonly log: ServerLog;
  readonly signal: AbortSignal | undefined;
}

export interface Cluster {
  readonly path: string;
  readonly temporary: boolean;
  readonly memory: Memory;
}

/**
 * @param folder empty, belongs to the account; emptied when this fails or we are killed meanwhile
 * @param lasting whether the cluster is worth waiting for the disk
 * @returns the password of the superuser `postgres`
 */
const createCluster = async (
  { account, binaries, log, signal }: StartContext,
  folder: string,
  lasting: boolean,
): Promise<string> => {
  signal?.throwIfAborted();
  const password = randomBytes(24).toString('base64url');
  const data = dataArgument(folder, account);
  const guard = startGuarded({
    command: join(binaries.dir, 'initdb'),
    args: [
      `--pgdata=${data.argument}`,
      '--username=postgres',
      '--auth=scram-sha-256',
      '--pwfile=/dev/stdin',
      '--encoding=UTF8',
      '--locale=C',
      '--no-instructions',
      // Since 17 there is a locale of PostgreSQL's own that knows the case of letters beyond ASCII.
      ...(binaries.major >= 17 ? ['--locale-provider=builtin', '--builtin-locale=C.UTF-8'] : []),
      ...(lasting ? [] : ['--no-sync']),
    ],
    account,
    logFd: log.fd,
    folderFd: data.fd,
    secret: password,
    remove: { folder, when: 'failed' },
  });
  if (data.fd !== undefined) closeSync(data.fd);
  signal?.addEventListener('abort', guard.end, { once: true });
  const { code } = await guard.exited;
  signal?.removeEventListener('abort', guard.end);
  signal?.throwIfAborted();
  if (code === 0) return password;
  throw new Error(
    `initdb of PostgreSQL ${binaries.version} failed with exit code ${code} in ${folder}. It said:\n${log.tail()}\n` +
      'Mend what it names, or set DATABASE_URL to a server of yours.',
  );
};

/** Runs `create` with a new folder that does not stay behind when it fails. */
const inScratchFolder = async <T>(
  prefix: string,
  account: Account | undefined,
  create: (folder: string) => Promise<T>,
): Promise<T> => {
  await sweepScratchFolders(prefix, account);
  const folder = makeScratchFolder(prefix, account);
  try {
    return await create(folder);
  } catch (error) {
    await removeScratchFolder(folder, account);
    throw error;
  }
};

/** A new cluster, to be discarded after use. */
export const openTemporaryCluster = (context: StartContext): Promise<Cluster> => {
  const prefix = join(temporaryBases(context.account)[0]!, 'sluice-pg');
  return inScratchFolder(prefix, context.account, async (path) => {
    const password = await createCluster(context, path, false);
    return { path, temporary: true, memory: { password } };
  });
};

/** The cluster in the folder `path`, created when there is none, with no server running in it. */
export const openLastingCluster = async (context: StartContext, path: string): Promise<Cluster> => {
  const { account } = context;
  if (clusterMajor(path) === undefined) {
    await inScratchFolder(`${path}.init`, account, async (folder) => {
      const password = await createCluster(context, folder, true);
      remember(folder, { password }, account);
      // Another process was first: its cluster is the one.
      if (!moveIntoPlace(folder, path)) await removeScratchFolder(folder, account);
    });
  }
  await vacate(path);
  return { path, temporary: false, memory: recall(path) };
};

export const discardCluster = async (
  { path, temporary }: Cluster,
  account: Account | undefined,
): Promise<void> => {
  if (temporary) await removeScratchFolder(path, account);
};
