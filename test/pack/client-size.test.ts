// Guards what a page pays for the client: what it loads at once stays within 5 kB, bundled, minified and gzipped, and
// what is rare (sharing across tabs, refusals, readers that catch up, presence) comes only when it is needed.
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { beforeAll, expect, test } from 'vitest';
import { root } from '../support/tidy/files.ts';

interface Chunk {
  readonly bytes: number;
  readonly inputs: readonly string[];
  /** Loaded with it. */
  readonly imports: readonly string[];
}
const chunks = new Map<string, Chunk>();
let entry = '';

beforeAll(async () => {
  const { outputFiles, metafile } = await build({
    entryPoints: [`${root}dist/client.js`],
    absWorkingDir: root,
    outdir: 'out',
    bundle: true,
    splitting: true,
    minify: true,
    format: 'esm',
    target: 'es2022',
    metafile: true,
    write: false,
  });
  for (const [path, output] of Object.entries(metafile.outputs)) {
    const file = outputFiles.find((each) => each.path.endsWith(path))!;
    chunks.set(path, {
      bytes: gzipSync(file.contents, { level: 9 }).length,
      inputs: Object.keys(output.inputs),
      imports: output.imports.filter(({ kind }) => kind === 'import-statement').map(({ path }) => path),
    });
    if (output.entryPoint !== undefined && path === 'out/client.js') entry = path;
  }
});

/** A chunk with all it cannot do without. */
const whole = (path: string): Chunk[] => {
  const chunk = chunks.get(path)!;
  return [chunk, ...chunk.imports.flatMap(whole)];
};

test('a page loads at most 5 kB', () => {
  const loaded = whole(entry);
  expect(loaded.reduce((sum, { bytes }) => sum + bytes, 0)).toBeLessThanOrEqual(5 * 1024);
  const inputs = loaded.flatMap(({ inputs }) => inputs).join(' ');
  expect(inputs).toContain('client/line.js');
  for (const rare of ['tabs', 'rearrange', 'answer', 'presence', 'joining'])
    expect(inputs).not.toMatch(new RegExp(`client/${rare}\\b`));
});
