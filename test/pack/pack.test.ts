// Guards what a user receives: the tarball is packed, installed into an empty ESM and an empty CommonJS project, and
// every entry point is loaded, type-checked and, for the CLI, run there. Nothing of this checkout is reachable from
// those projects but the compiler and Node's types. Entry points are read from package.json, so a new one is covered.
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, posix } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { filesUnder, root } from '../support/tidy/files.ts';

const run = promisify(execFile);

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly bin: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
  readonly exports: Readonly<
    Record<string, string | Readonly<Record<'source' | 'types' | 'default', string>>>
  >;
}

const manifest = JSON.parse(await readFile(`${root}package.json`, 'utf8')) as Manifest;
const entries = Object.entries(manifest.exports).flatMap(([subpath, target]) =>
  typeof target === 'string' ? [] : [{ specifier: posix.join(manifest.name, subpath), ...target }],
);

let folder: string;
let packed: string[];
const projects = { esm: '', cjs: '' };

const createProject = async (name: 'esm' | 'cjs', tarball: string): Promise<string> => {
  const project = join(folder, name);
  await mkdir(project);
  const type = name === 'esm' ? 'module' : 'commonjs';
  await writeFile(
    join(project, 'package.json'),
    JSON.stringify({ name: `consumer-${name}`, private: true, type }),
  );
  // The optional peers that entry points import, as who uses those has installed them.
  const wanted = [tarball, `react@${manifest.devDependencies['react']}`];
  await run(
    'npm',
    ['install', '--prefer-offline', '--no-audit', '--no-fund', '--ignore-scripts', ...wanted],
    {
      cwd: project,
    },
  );
  return project;
};

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sluice-pack-'));
  // Without scripts: `prepack` would rebuild dist under the feet of tests that run beside this one.
  const { stdout } = await run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], {
    cwd: root,
  });
  const [result] = JSON.parse(stdout) as { filename: string; files: { path: string }[] }[];
  packed = result!.files.map(({ path }) => path).sort();
  const tarball = join(folder, result!.filename);
  projects.esm = await createProject('esm', tarball);
  projects.cjs = await createProject('cjs', tarball);
});

afterAll(() => rm(folder, { recursive: true, force: true }));

describe('the files in the tarball', () => {
  test('are the built package, its sources and its documents, nothing else', () => {
    const wanted = /^(?:dist|src|sql|docs)\/|^(?:package\.json|README\.md|LICENSE|CHANGELOG\.md)$/;
    expect(packed.filter((path) => !wanted.test(path))).toEqual([]);
    expect(
      packed.filter((path) => /(?:^|\/)(?:test|tests|bench)\/|\.test\.|\.tgz$|\.sluice\//.test(path)),
    ).toEqual([]);
  });

  test('hold what every entry point and the CLI name', () => {
    const named = [
      ...entries.flatMap(({ source, types, default: main }) => [source, types, main]),
      ...Object.values(manifest.bin),
    ];
    expect(named.map((path) => posix.normalize(path)).filter((path) => !packed.includes(path))).toEqual([]);
  });

  test('hold every source with what was built from it, and nothing built from a source that is gone', () => {
    const sources = filesUnder('src').map(({ path }) => path);
    const built = (path: string): string[] => {
      const stem = path.replace(/^src/, 'dist').replace(/\.ts$/, '');
      if (!path.endsWith('.ts')) return [stem];
      return path.endsWith('.d.ts')
        ? []
        : [`${stem}.js`, `${stem}.d.ts`, `${stem}.js.map`, `${stem}.d.ts.map`];
    };
    expect(packed.filter((path) => path.startsWith('src/'))).toEqual(sources);
    const known = new Set(['dist/.built', ...sources.flatMap(built)]);
    expect(packed.filter((path) => path.startsWith('dist/') && !known.has(path))).toEqual([]);
    expect(sources.flatMap(built).filter((path) => !packed.includes(path))).toEqual([]);
  });

  test('hold the source that every source map points to', async () => {
    const maps = packed.filter((path) => path.endsWith('.map'));
    const missing = await Promise.all(
      maps.map(async (path) => {
        const { sources } = JSON.parse(
          await readFile(join(projects.esm, 'node_modules', manifest.name, path), 'utf8'),
        ) as {
          sources: string[];
        };
        return sources
          .map((source) => posix.join(posix.dirname(path), source))
          .filter((source) => !packed.includes(source));
      }),
    );
    expect(missing.flat()).toEqual([]);
  });

  test('hold all SQL', () => {
    expect(packed.filter((path) => path.startsWith('sql/'))).toEqual(
      filesUnder('sql').map(({ path }) => path),
    );
  });
});

describe.each(entries)('$specifier', ({ specifier }) => {
  test('loads with import', async () => {
    const script = `import * as it from '${specifier}'; console.log(Object.keys(it).length);`;
    const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', script], {
      cwd: projects.esm,
    });
    expect(Number(stdout)).toBeGreaterThan(0);
  });

  test('loads with require', async () => {
    const script = `console.log(Object.keys(require('${specifier}')).length);`;
    const { stdout } = await run(process.execPath, ['--input-type=commonjs', '--eval', script], {
      cwd: projects.cjs,
    });
    expect(Number(stdout)).toBeGreaterThan(0);
  });
});

describe.each(['esm', 'cjs'] as const)('types, seen from an %s project', (name) => {
  /** What the compiler says of a program that imports these, without skipLibCheck. */
  const complaints = async (
    specifiers: readonly string[],
    options: Readonly<Record<string, unknown>>,
  ): Promise<string> => {
    const project = projects[name];
    const lines = specifiers.flatMap((specifier, index) => [
      `import * as entry${index} from '${specifier}';`,
      `export const names${index}: readonly string[] = Object.keys(entry${index});`,
    ]);
    await writeFile(join(project, 'consumer.ts'), `${lines.join('\n')}\n`);
    const compilerOptions = {
      module: 'nodenext',
      target: 'es2022',
      strict: true,
      exactOptionalPropertyTypes: true,
      skipLibCheck: false,
      noEmit: true,
      typeRoots: [join(root, 'node_modules/@types')],
      ...options,
    };
    await writeFile(
      join(project, 'tsconfig.json'),
      JSON.stringify({ compilerOptions, files: ['consumer.ts'] }),
    );
    const tsc = run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc')], { cwd: project });
    return tsc.then(
      () => '',
      (error: { stdout: string }) => error.stdout,
    );
  };

  test('resolve, and hold without skipLibCheck', async () => {
    const all = entries.map(({ specifier }) => specifier);
    expect(await complaints(all, { lib: ['es2023', 'esnext.disposable'], types: ['node'] })).toBe('');
  });

  test('of what is for browsers hold with what a page has', async () => {
    const forPages = ['sluice/client', 'sluice/element'];
    expect(await complaints(forPages, { lib: ['es2022', 'dom'], types: [] })).toBe('');
  });
});

describe('the CLI', () => {
  test.each(Object.keys(manifest.bin))('%s runs from node_modules/.bin', async (name) => {
    const bin = join(projects.esm, 'node_modules/.bin', name);
    expect((await run(bin, ['--version'])).stdout.trim()).toBe(manifest.version);
    expect((await run(bin, ['--help'])).stdout).toMatch(/^Usage: sluice/);
  });
});
