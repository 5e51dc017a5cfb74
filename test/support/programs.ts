// Owns checking and running code from documents as a user's own: in a temporary folder whose node_modules holds this
// package and its development dependencies, against the built package. The compiler runs once for all programs.
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { root } from './tidy/files.ts';

const execute = promisify(execFile);

/** A module by name; the extension of the name (`.mts`, `.mjs`) says its language. */
export type Programs = Readonly<Record<string, string>>;

export interface Checked {
  /** The compiler's messages about one program, empty when it holds. */
  errorsOf(name: string): string;
  /** Runs one program as a module; rejects with its output unless it exits with 0 within a minute. */
  run(name: string, env: Readonly<Record<string, string>>): Promise<string>;
  close(): Promise<void>;
}

const compilerOptions = {
  module: 'nodenext',
  target: 'es2022',
  // Examples show both sides, so the browser's globals are there too.
  lib: ['es2023', 'esnext.disposable', 'dom', 'dom.iterable', 'dom.asynciterable'],
  types: ['node'],
  strict: true,
  exactOptionalPropertyTypes: true,
  skipLibCheck: true,
  allowJs: true,
  checkJs: true,
  moduleDetection: 'force',
  rootDir: 'programs',
  outDir: 'out',
};

const linkPackages = async (folder: string): Promise<void> => {
  const modules = join(folder, 'node_modules');
  await mkdir(modules);
  const installed = (await readdir(`${root}node_modules`)).filter((name) => !name.startsWith('.'));
  await Promise.all(installed.map((name) => symlink(`${root}node_modules/${name}`, join(modules, name))));
  await symlink(root, join(modules, 'sluice'));
};

export const checkPrograms = async (programs: Programs): Promise<Checked> => {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-docs-'));
  const names = Object.keys(programs);
  await linkPackages(folder);
  await mkdir(join(folder, 'programs'));
  await Promise.all(names.map((name) => writeFile(join(folder, 'programs', name), programs[name]!)));
  const files = names.map((name) => `programs/${name}`);
  await writeFile(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files }));
  const tsc = execute(
    process.execPath,
    [join(root, 'node_modules/typescript/bin/tsc'), '--pretty', 'false'],
    { cwd: folder },
  );
  const report = await tsc.then(
    ({ stdout }) => stdout,
    (error: { stdout: string }) => error.stdout,
  );
  const messages = report.split(/\n(?=\S)/);
  const stray = messages.filter((message) => message.trim() !== '' && !message.startsWith('programs/'));
  if (stray.length > 0) throw new Error(`the compiler failed:\n${stray.join('\n')}`);
  return {
    errorsOf: (name) => messages.filter((message) => message.startsWith(`programs/${name}(`)).join('\n'),
    run: async (name, env) => {
      const file = join(folder, 'out', name.replace(/\.mts$/, '.mjs'));
      try {
        const options = { cwd: folder, env: { ...process.env, ...env }, timeout: 60_000 };
        return (await execute(process.execPath, [file], options)).stdout;
      } catch (error) {
        const { code, signal, stdout, stderr } = error as Record<string, unknown>;
        throw new Error(`it ended with ${String(code ?? signal)}\n${String(stdout)}${String(stderr)}`, {
          cause: error,
        });
      }
    },
    close: () => rm(folder, { recursive: true, force: true }),
  };
};
