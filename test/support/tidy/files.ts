// Owns reading the package's own files for the rules: what is in the checkout, without what is built, installed or
// binary. It reads the disk rather than git, so that a file not yet committed is judged too.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { SourceFile } from './scan.ts';

/** The root of the package, ending in a slash. */
export const root: string = fileURLToPath(new URL('../../..', import.meta.url));

const ignored = new Set(['node_modules', 'dist', '.git', '.sluice', 'coverage']);

const walk = (folder: string): string[] =>
  readdirSync(root + folder, { withFileTypes: true }).flatMap((entry) => {
    if (ignored.has(entry.name)) return [];
    const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
    if (entry.isDirectory()) return walk(path);
    return entry.isFile() ? [path] : [];
  });

/** Files under `folder` (the whole package by default) whose name ends in one of `endings`, sorted by path. */
export const filesUnder = (folder = '', endings: readonly string[] = ['']): SourceFile[] =>
  (folder === '' || existsSync(root + folder) ? walk(folder) : [])
    .filter((path) => endings.some((ending) => path.endsWith(ending)))
    .sort()
    .map((path) => ({ path, text: readFileSync(root + path, 'utf8') }));
