// Owns the folder of a cluster: where it is, how the server is told, and what we remember in it (sluice.json: the
// password and the last port, readable by the cluster's owner alone, as the data itself is). A cluster appears in its
// folder whole, by one rename, so that two first starts at the same time and a kill halfway leave nothing half made.
// Never writes into a folder that holds anything else.
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  existsSync,
  fchownSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { canEnter, type Account } from './account.ts';

/** What is remembered between starts. */
export interface Memory {
  readonly password: string;
  readonly port?: number | undefined;
}

/**
 * The real path of the folder for a lasting cluster; its parents are made.
 *
 * @throws Error when the folder holds something that is no cluster
 */
export const locateDataFolder = (dataDir: string): string => {
  const wanted = resolve(dataDir);
  if (existsSync(wanted)) {
    const path = realpathSync(wanted);
    if (readdirSync(path).length === 0 || existsSync(join(path, 'PG_VERSION'))) return path;
    throw new Error(`${path} is not empty and holds no PostgreSQL cluster: use a folder of its own.`);
  }
  mkdirSync(dirname(wanted), { recursive: true });
  return join(realpathSync(dirname(wanted)), basename(wanted));
};

/** The major version of the cluster in `path`, `undefined` when there is none yet. */
export const clusterMajor = (path: string): number | undefined => {
  const file = join(path, 'PG_VERSION');
  return existsSync(file) ? Number.parseInt(readFileSync(file, 'utf8'), 10) : undefined;
};

/** Moves a complete cluster to its place. False when there is one already: another process was first. */
export const moveIntoPlace = (from: string, path: string): boolean => {
  try {
    renameSync(from, path);
    return true;
  } catch (error) {
    if (['ENOTEMPTY', 'EEXIST'].includes((error as NodeJS.ErrnoException).code ?? '')) return false;
    throw new Error(
      `The new cluster cannot be moved to ${path} (${(error as Error).message}): ` +
        'use a folder that is no mount point and whose parent you can write to.',
      { cause: error },
    );
  }
};

const memoryFile = 'sluice.json';

export const recall = (path: string): Memory => {
  try {
    return JSON.parse(readFileSync(join(path, memoryFile), 'utf8')) as Memory;
  } catch (error) {
    throw new Error(
      `The password of the cluster in ${path} is not known (${memoryFile} cannot be read), as something else made it: ` +
        'start that server yourself and set DATABASE_URL, or use another folder.',
      { cause: error },
    );
  }
};

export const remember = (path: string, memory: Memory, account: Account | undefined): void => {
  const file = join(path, memoryFile);
  const partial = `${file}.${randomBytes(6).toString('hex')}`;
  // `wx` follows no link that the account may have put there.
  const fd = openSync(partial, 'wx', 0o600);
  try {
    writeFileSync(fd, `${JSON.stringify(memory)}\n`);
    if (account !== undefined) fchownSync(fd, account.uid, account.gid);
    renameSync(partial, file);
  } catch (error) {
    rmSync(partial, { force: true });
    throw error;
  } finally {
    closeSync(fd);
  }
};

/** How a command is told its data folder. */
export interface DataArgument {
  readonly argument: string;
  /** To be handed on as descriptor 4 and closed after the start. */
  readonly fd?: number | undefined;
}

/**
 * For a folder that the account cannot reach by its path (a project below a private home folder, under root), Linux
 * has another way: a descriptor that we open, under /proc/self/fd, where only the folder's own rights count.
 */
export const dataArgument = (path: string, account: Account | undefined): DataArgument => {
  if (canEnter(account, path)) return { argument: path };
  if (process.platform === 'linux') {
    return { argument: '/proc/self/fd/4', fd: openSync(path, constants.O_RDONLY | constants.O_DIRECTORY) };
  }
  throw new Error(
    `PostgreSQL does not run as root, and ${account?.name} cannot enter ${path}: ` +
      'run this as an ordinary user, or put the data into a folder that others can enter.',
  );
};
