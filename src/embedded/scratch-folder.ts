// Owns folders that must not outlive us: temporary clusters, and clusters while they are being created. Their names
// say which process made them, so that what a killed run has left behind is found and removed by the next one.
// Root must never remove a tree below a folder that another account can write to (it could be led elsewhere by a
// symbolic link halfway): such a tree is removed with that account's rights.
import { execFile } from 'node:child_process';
import {
  chownSync,
  existsSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  realpathSync,
  rmdirSync,
  statSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { canEnter, credentials, type Account } from './account.ts';
import { childEnvironment } from './environment.ts';
import { isAlive, runningServer, signalServer } from './running-server.ts';

const run = promisify(execFile);

/** Whether only we and root can rename or remove what we make in `folder`. */
const isSafe = (folder: string): boolean => {
  const { uid, mode } = statSync(folder);
  return (uid === 0 || uid === process.getuid?.()) && ((mode & 0o022) === 0 || (mode & 0o1000) !== 0);
};

/** The folders for temporary files that are safe for us and can be entered by `account`; at least one, else it throws. */
export const temporaryBases = (account: Account | undefined): readonly string[] => {
  const bases = [tmpdir(), '/tmp', '/var/tmp'].flatMap((folder) => {
    try {
      return [realpathSync(folder)];
    } catch {
      return [];
    }
  });
  const usable = [...new Set(bases)].filter((folder) => isSafe(folder) && canEnter(account, folder));
  if (usable.length > 0) return usable;
  throw new Error(
    `No temporary folder to use: ${bases.join(', ')} can be changed by others, or not be entered by ` +
      `${account?.name ?? 'us'}. Set TMPDIR to a folder that belongs to you or to root.`,
  );
};

/** Process ids mean something within one pid namespace only, and a temporary folder may be shared by several. */
const pidNamespace = (): string => {
  try {
    return /\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0] ?? '0';
  } catch {
    return '0';
  }
};

/** A new empty folder named after `prefix` and us, for `account` alone. */
export const makeScratchFolder = (prefix: string, account: Account | undefined): string => {
  const folder = mkdtempSync(`${prefix}-${pidNamespace()}-${process.pid}-`);
  if (account !== undefined) chownSync(folder, account.uid, account.gid);
  return folder;
};

/** Removes a scratch folder with everything in it. Leaves it to the next sweep when that fails. */
export const removeScratchFolder = async (folder: string, account: Account | undefined): Promise<void> => {
  if (!existsSync(folder)) return;
  try {
    await run('rm', ['-rf', '--', folder], { ...credentials(account), cwd: '/', env: childEnvironment() });
  } catch {
    // The account may empty its folder, but not remove it from ours; that is the next step.
  }
  try {
    rmdirSync(folder);
  } catch {
    // Gone already, or left to the next sweep.
  }
};

/** Removes the scratch folders of that prefix whose makers are gone, and stops a server that still runs in one. */
export const sweepScratchFolders = async (prefix: string, account: Account | undefined): Promise<void> => {
  const start = `${basename(prefix)}-${pidNamespace()}-`;
  const ours = new Set([process.getuid?.(), account?.uid]);
  for (const name of readdirSync(dirname(prefix))) {
    const maker = name.startsWith(start) ? /^(\d+)-/.exec(name.slice(start.length))?.[1] : undefined;
    if (maker === undefined || isAlive(Number(maker))) continue;
    const folder = join(dirname(prefix), name);
    const entry = lstatSync(folder, { throwIfNoEntry: false });
    if (entry === undefined || !entry.isDirectory() || !ours.has(entry.uid)) continue;
    const server = runningServer(folder);
    if (server !== undefined) signalServer(server, 'SIGINT');
    else await removeScratchFolder(folder, entry.uid === account?.uid ? account : undefined);
  }
};
