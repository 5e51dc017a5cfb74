// The note that a running `dev` leaves in its folder, `.sluice/dev.json`: how to reach its database, so that other
// commands find it. It holds a password, so it is readable by its owner alone and believed only if it is; it is removed
// on exit, and one left behind by a process that was killed is recognised by asking for that process.
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { CommandError } from './command-error.ts';

export interface RunningDev {
  readonly pid: number;
  /** Where it serves HTTP. */
  readonly url: string;
  readonly connectionString: string;
  readonly schema: string;
}

/** What `dev` keeps in the folder it runs in. */
export const devFolder = (cwd: string): string => join(cwd, '.sluice');
const devFile = (cwd: string): string => join(devFolder(cwd), 'dev.json');

/**
 * The `dev` that runs in this folder, if one does.
 *
 * @throws CommandError when there is one whose note is not to be trusted
 */
export async function findRunningDev(cwd: string): Promise<RunningDev | undefined> {
  const note = readNote(devFile(cwd));
  if (note === undefined || !isAlive(note.dev.pid)) return undefined;
  if (note.isOurs) return (await answers(note.dev.url)) ? note.dev : undefined;
  throw new CommandError(
    'failed',
    `${devFile(cwd)} belongs to another user or can be read by others, so it is not trusted: ` +
      'give --database-url, or remove that file',
  );
}

/** Leaves the note, unless a `dev` that runs already has left its own. The returned function takes it away. */
export async function leaveNote(cwd: string, dev: RunningDev): Promise<() => void> {
  if ((await findRunningDev(cwd)) !== undefined) return () => {};
  const path = devFile(cwd);
  makeDevFolder(cwd);
  // Complete at every moment; `wx` follows no link.
  const partial = `${path}.${randomBytes(6).toString('hex')}`;
  writeFileSync(partial, `${JSON.stringify(dev)}\n`, { flag: 'wx', mode: 0o600 });
  renameSync(partial, path);
  const remove = (): void => {
    process.off('exit', remove);
    if (readNote(path)?.dev.pid === dev.pid) rmSync(path, { force: true });
  };
  process.on('exit', remove);
  return remove;
}

/** Makes the folder, with a note to git that nothing in it is to be committed. */
export function makeDevFolder(cwd: string): void {
  const folder = devFolder(cwd);
  mkdirSync(folder, { recursive: true });
  const ignore = join(folder, '.gitignore');
  if (!existsSync(ignore)) writeFileSync(ignore, '*\n');
}

function readNote(path: string): { readonly dev: RunningDev; readonly isOurs: boolean } | undefined {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch {
    return undefined;
  }
  try {
    const { uid, mode } = fstatSync(fd);
    const ourUid = process.getuid?.();
    const dev: unknown = JSON.parse(readFileSync(fd, 'utf8'));
    if (!isRunningDev(dev)) return undefined;
    return { dev, isOurs: ourUid === undefined || (uid === ourUid && (mode & 0o077) === 0) };
  } catch {
    return undefined; // not ours to mend: a `dev` that starts writes a new one
  } finally {
    closeSync(fd);
  }
}

const isRunningDev = (note: unknown): note is RunningDev => {
  const { pid, url, connectionString, schema } = (note ?? {}) as Partial<Record<keyof RunningDev, unknown>>;
  return (
    Number.isInteger(pid) &&
    Number(pid) > 0 &&
    URL.canParse(String(url)) &&
    typeof connectionString === 'string' &&
    typeof schema === 'string'
  );
};

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
};

/** Its number may be another program's by now; then nobody listens where it did. */
const answers = (url: string): Promise<boolean> =>
  new Promise((resolve) => {
    const { hostname, port } = new URL(url);
    const socket = connect({ host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || 80) });
    const settle = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', () => settle(true));
    socket.once('error', () => settle(false));
  });
