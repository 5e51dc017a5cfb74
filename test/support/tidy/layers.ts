// Owns the rule of who may import whom. The table itself stands in test/unit/tidy.test.ts; this only applies it.
import { posix } from 'node:path';
import { importsOf, isUnder, type SourceFile } from './scan.ts';

/** `entry` in a layer's list stands for the entry points, src/*.ts. Its own files and `util` are always allowed. */
export type Layers = Readonly<Record<string, readonly string[]>>;
/** npm packages, and the folders or files that may import them. */
export type Packages = Readonly<Record<string, readonly string[]>>;

const layerOf = (path: string): string | undefined => {
  const [top, layer, ...rest] = path.split('/');
  if (top !== 'src' || layer === undefined) return undefined;
  return rest.length === 0 ? 'entry' : layer;
};

const packageOf = (specifier: string): string =>
  specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/');

/** Imports between layers that the table does not allow, and layers it does not know. */
export const forbiddenImports = (files: readonly SourceFile[], layers: Layers): string[] =>
  files.flatMap((file) => {
    const from = layerOf(file.path);
    if (from === undefined) return [];
    const allowed = from === 'entry' ? Object.keys(layers) : layers[from];
    if (allowed === undefined) return [`${file.path}: ${from} is not in the table of layers`];
    return importsOf(file).flatMap((specifier) => {
      const byName = packageOf(specifier) === 'sluice';
      if (!specifier.startsWith('.') && !byName) return [];
      const target = byName ? specifier : posix.join(posix.dirname(file.path), specifier);
      const to = byName ? 'entry' : layerOf(target);
      if (
        to !== undefined &&
        (to === from || to === 'util' || allowed.includes(to)) &&
        !isEntryChain(from, to)
      )
        return [];
      return [
        `${file.path} imports ${target}: ${from} may import ${allowed.join(', ') || 'nothing'} (and util)`,
      ];
    });
  });

/** Entry points stand beside each other: what two of them share belongs to a layer. */
const isEntryChain = (from: string, to: string): boolean => from === 'entry' && to === 'entry';

/** Imports of npm packages outside the folders they are meant for, and packages the table does not know. */
export const forbiddenPackages = (files: readonly SourceFile[], packages: Packages): string[] =>
  files.flatMap((file) =>
    importsOf(file)
      .filter((specifier) => !/^(?:\.|node:)/.test(specifier) && packageOf(specifier) !== 'sluice')
      .filter((specifier) => !isUnder(file.path, packages[packageOf(specifier)] ?? []))
      .map(
        (specifier) =>
          `${file.path} imports ${specifier}: allowed in ${(packages[packageOf(specifier)] ?? ['no file']).join(', ')}`,
      ),
  );

/** Files in layers that no other file imports. */
export const leftOver = (files: readonly SourceFile[]): string[] => {
  const imported = new Set(
    files.flatMap((file) =>
      importsOf(file).map((specifier) => posix.join(posix.dirname(file.path), specifier)),
    ),
  );
  return files.map(({ path }) => path).filter((path) => layerOf(path) !== 'entry' && !imported.has(path));
};

/** Files directly in src that are no entry point of package.json. */
export const strayEntries = (files: readonly SourceFile[], manifest: Manifest): string[] => {
  const exported = Object.values(manifest.exports).flatMap((target) =>
    typeof target === 'string' ? [] : [target.source],
  );
  const bins = Object.values(manifest.bin ?? {}).map((path) =>
    path.replace('dist', 'src').replace(/js$/, 'ts'),
  );
  const public_ = new Set([...exported, ...bins].map((path) => posix.normalize(path)));
  const present = files.map((file) => file.path).filter((path) => layerOf(path) === 'entry');
  return present
    .filter((path) => !public_.has(path))
    .map((path) => `${path} is not in exports or bin of package.json: move it into a layer`);
};

export interface Manifest {
  readonly exports: Readonly<Record<string, string | { readonly source: string }>>;
  readonly bin?: Readonly<Record<string, string>> | undefined;
}
