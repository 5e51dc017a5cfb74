// Owns the question of whose rights the server runs with. PostgreSQL refuses to run as root, so a process of root hands
// it to an unprivileged account that already exists; it must never create an account or change the rights of a folder
// it did not make. Also answers whether that account can enter a folder, by mode bits alone: an ACL it cannot see makes
// the answer a cautious no, for which every caller has another way.
import { execFile } from 'node:child_process';
import { statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { childEnvironment } from './environment.ts';

/** An account to give up root's rights for. `undefined` in its place means: stay who we are. */
export interface Account {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

const run = promisify(execFile);

/** The numbers come from `id`, which also knows accounts that are in no passwd file (macOS, directory services). */
const lookUp = async (name: string): Promise<Account | undefined> => {
  try {
    const [uid, gid] = await Promise.all(
      ['-u', '-g'].map(async (flag) => (await run('id', [flag, name], { env: childEnvironment() })).stdout),
    );
    return { name, uid: Number(uid) >>> 0, gid: Number(gid) >>> 0 };
  } catch {
    return undefined;
  }
};

/** The owner of a cluster that exists: nobody else can run it, so whoever made it keeps it. */
const ownerOfCluster = (dataDir: string): Account | undefined => {
  const owner = statSync(join(dataDir, 'PG_VERSION'), { throwIfNoEntry: false });
  return owner === undefined ? undefined : { name: `uid ${owner.uid}`, uid: owner.uid, gid: owner.gid };
};

/**
 * The account the server runs as, for the cluster in `dataDir` if there is one: its owner; else `postgres` or
 * `nobody` under root, else `undefined`, ourselves.
 *
 * @throws Error when that cannot be
 */
export const serverAccount = async (dataDir?: string): Promise<Account | undefined> => {
  const ourUid = process.getuid?.();
  const owner = dataDir === undefined ? undefined : ownerOfCluster(dataDir);
  if (ourUid !== 0) {
    if (owner === undefined || owner.uid === ourUid) return undefined;
    throw new Error(
      `The data in ${dataDir} belongs to ${owner.name}, and this process is uid ${ourUid}: ` +
        'start as that user, or use another folder.',
    );
  }
  if (owner?.uid === 0) {
    throw new Error(
      `The data in ${dataDir} belongs to root, and PostgreSQL does not run as root: give the folder to another user ` +
        '(chown -R), or use another folder.',
    );
  }
  const account = owner ?? (await lookUp('postgres')) ?? (await lookUp('nobody'));
  if (account !== undefined) return account;
  throw new Error(
    'PostgreSQL does not run as root, and there is neither an account postgres nor an account nobody to run it as: ' +
      'run this as an ordinary user, or set DATABASE_URL to a server of yours.',
  );
};

/** The spawn options that make a child run as `account`. Node wants them signed, and macOS has 4294967294 for nobody. */
export const credentials = (account: Account | undefined): { uid?: number; gid?: number } =>
  account === undefined ? {} : { uid: account.uid | 0, gid: account.gid | 0 };

/** Whether `account` can reach what is in `folder` by its path. */
export const canEnter = (account: Account | undefined, folder: string): boolean => {
  if (account === undefined) return true;
  for (let at = folder; ; at = dirname(at)) {
    const { uid, gid, mode } = statSync(at);
    const bit = uid === account.uid ? 0o100 : gid === account.gid ? 0o010 : 0o001;
    if ((mode & bit) === 0) return false;
    if (at === dirname(at)) return true;
  }
};
