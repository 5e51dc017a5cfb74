// Guards what the documents name: files that exist, and for every interleaving of docs/interleavings.md a test.
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { filesUnder, root } from '../support/tidy/files.ts';

const paths = filesUnder().map(({ path }) => path);
const documents = [
  'README.md',
  'ARCHITECTURE.md',
  'CONTRIBUTING.md',
  'bench/README.md',
  ...filesUnder('docs', ['.md']).map(({ path }) => path),
].map((path) => ({ path, text: readFileSync(root + path, 'utf8') }));

/** Of a path that may hold `*` and `{a,b}`. */
const pattern = (path: string): RegExp =>
  new RegExp(
    `^${path
      .replace(/[.?+()[\]]/g, '\\$&')
      .replaceAll('*', '[^/]*')
      .replace(/\{([^}]*)\}/g, (_, each: string) => `(?:${each.replaceAll(',', '|')})`)}(?:/|$)`,
  );

const named = (text: string): string[] =>
  [...text.matchAll(/(?<![\w/.-])(?:src|sql|test|docs|bench|scripts)\/[\w./*{},-]*/g)].map(([path]) =>
    path.replace(/[./,]+$/, ''),
  );

const missing = (text: string): string[] =>
  named(text).filter((path) => !paths.some((each) => pattern(path).test(each)));

test('every path that is named exists', () => {
  expect(named('see `src/log/*.ts`, sql/functions/pass.sql and `test/{unit,db}/`.')).toEqual([
    'src/log/*.ts',
    'sql/functions/pass.sql',
    'test/{unit,db}',
  ]);
  expect(missing('`src/log/append.ts`, `src/log/gone.ts`, `test/{unit,db}`')).toEqual(['src/log/gone.ts']);
  for (const { path, text } of documents) expect(missing(text), path).toEqual([]);
});

test('every link between documents leads somewhere', () => {
  for (const { path, text } of documents) {
    for (const [, target = ''] of text.matchAll(/\]\((?!https?:|#)([^)#]+)/g)) {
      const { pathname } = new URL(target, `file:///${path}`);
      expect(
        paths.some((each) => pattern(pathname.slice(1).replace(/\/$/, '')).test(each)),
        `${path}: ${target}`,
      ).toBe(true);
    }
  }
});

test('every interleaving has a test, in a file that its row names; those that have a number are named by it', () => {
  const rows = [
    ...readFileSync(`${root}docs/interleavings.md`, 'utf8').matchAll(/^\| (\w+) \|.*\| (.+?) \|$/gm),
  ];
  const ids = rows.map(([, id = '']) => id);
  const numbers = ids.filter((id) => /^\d/.test(id)).map(Number);
  expect(numbers).toEqual(numbers.map((_, index) => index + 1));
  expect(new Set(ids).size).toBe(ids.length);
  for (const [, id = '', files = ''] of rows) {
    const tests = [...files.matchAll(/`([\w/-]+)`/g)].map(([, name]) => `test/${name}.test.ts`);
    expect(tests.length, id).toBeGreaterThan(0);
    for (const each of tests) expect(paths, id).toContain(each);
    const names = new RegExp(String.raw`\binterleavings? (?:\d+ and )?${id}\b`);
    if (/^\d/.test(id))
      expect(
        tests.some((each) => names.test(readFileSync(root + each, 'utf8'))),
        id,
      ).toBe(true);
  }
});
