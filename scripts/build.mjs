// Compiles src/ to dist/ with tsc, makes one script of the demo's page with the client in it, and copies its static
// files. `--if-stale` does nothing when dist is newer than every source, so `npm start` and `npm test` also work in a
// clone installed with scripts disabled.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const stamp = join(root, 'dist', '.built');
const page = 'cli/demo/page';

/** @param {string} dir @returns {string[]} */
const walk = (dir) =>
  readdirSync(dir, { withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory() ? walk(join(dir, entry.name)) : [join(dir, entry.name)],
  );

const isFresh = () => {
  if (!existsSync(stamp)) return false;
  const built = statSync(stamp).mtimeMs;
  const sources = [
    ...walk(join(root, 'src')),
    ...walk(join(root, 'sql')),
    join(root, 'package.json'),
    join(root, 'tsconfig.base.json'),
  ];
  return sources.every((file) => statSync(file).mtimeMs < built);
};

/** @param {string[]} args */
const run = (...args) => {
  const { status } = spawnSync(process.execPath, args, { cwd: root, stdio: ['ignore', 2, 2] });
  if (status !== 0) process.exit(status ?? 1);
};

if (!(process.argv.includes('--if-stale') && isFresh())) {
  const tsc = fileURLToPath(new URL('bin/tsc', import.meta.resolve('typescript/package.json')));
  rmSync(join(root, 'dist'), { recursive: true, force: true });
  run(join(root, 'scripts/embed-sql.mjs'));
  run(tsc, '-p', 'tsconfig.client.json', '--noEmit', 'false');
  run(tsc, '-p', 'tsconfig.json', '--noEmit', 'false');
  for (const file of walk(join(root, 'src', page))) {
    if (file.endsWith('.ts')) continue;
    const copy = file.replace(join(root, 'src'), join(root, 'dist'));
    mkdirSync(dirname(copy), { recursive: true });
    copyFileSync(file, copy);
  }
  const { build } = await import('esbuild');
  const script = join(root, 'dist', page, 'page.js');
  await build({
    entryPoints: [script],
    outfile: script,
    allowOverwrite: true,
    bundle: true,
    format: 'esm',
    target: 'es2022',
    sourcemap: true,
    sourcesContent: false,
    logLevel: 'warning',
  });
  const cli = join(root, 'dist', 'cli.js');
  if (existsSync(cli)) chmodSync(cli, 0o755);
  writeFileSync(stamp, '');
}
