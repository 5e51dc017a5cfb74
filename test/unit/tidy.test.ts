// Guards the shape of the code: who imports whom, how large files grow, what they may contain. The tables below are
// the design as data; the rules that apply them live in test/support/tidy. Every rule is first shown a text that breaks
// it, so that a rule that has gone blind fails here and not in review.
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { filesUnder, root } from '../support/tidy/files.ts';
import {
  forbiddenImports,
  forbiddenPackages,
  leftOver,
  strayEntries,
  type Layers,
  type Manifest,
  type Packages,
} from '../support/tidy/layers.ts';
import { findIn, importsOf, scan, type SourceFile } from '../support/tidy/scan.ts';
import { uncommented, unruly, upperCaseKeywords } from '../support/tidy/sql.ts';
import * as texture from '../support/tidy/texture.ts';

/** Who may import whom. Every layer may also import `util` and its own files; `entry` stands for src/*.ts. */
const layers: Layers = {
  util: [],
  protocol: [],
  db: [],
  adapters: ['db'],
  listen: ['db'],
  log: ['db', 'listen', 'protocol'],
  relay: ['db', 'log', 'listen'],
  tail: ['db', 'log', 'listen', 'protocol'],
  ephemerals: ['db', 'listen', 'protocol'],
  presence: ['db', 'protocol'],
  sluice: ['db', 'log', 'listen', 'protocol', 'relay', 'tail', 'ephemerals', 'presence', 'groups'],
  groups: ['db', 'listen', 'log', 'tail', 'protocol'],
  http: ['db', 'sluice', 'tail', 'log', 'groups', 'ephemerals', 'presence', 'protocol'],
  client: ['protocol'],
  react: ['client', 'protocol'],
  element: ['client'],
  cli: ['entry'],
  embedded: [],
};

/** npm packages that src imports, and where. */
const packages: Packages = {
  pg: ['src/db', 'src/listen', 'src/embedded', 'src/cli/demo', 'src/cli/doctor'],
  commander: ['src/cli'],
  'prom-client': ['src/http/metrics'],
  react: ['src/react'],
  jose: ['src/http'],
  '@standard-schema/spec': ['src/util/standard-schema'], // types alone
};

/** What code in src must not contain. Time, chance and the process enter through parameters, but for these seams. */
const bans: readonly texture.Ban[] = [
  { what: 'log through the logger', code: /\bconsole\b/ },
  {
    what: 'take it as an option',
    code: /\bprocess\s*(?:\?\.|[.[])/,
    allowedIn: ['src/cli', 'src/embedded', 'src/sluice/environment'],
  },
  {
    what: 'take the time as a parameter',
    code: /\bDate\s*\.\s*now\b|\bnew Date\(\s*\)/,
    allowedIn: ['src/util/clock', 'src/cli'],
  },
  {
    what: 'take chance as a parameter',
    code: /\bMath\s*\.\s*random\b/,
    allowedIn: ['src/util/random', 'src/cli'],
  },
  { what: 'no EventEmitter in the public API', code: /\bEventEmitter\b/ },
  { what: 'use a union of strings', code: /\benum\s+\w/ },
  { what: 'use modules', code: /\bnamespace\s+\w/ },
  { what: 'export by name', code: /\bexport\s+default\b|\bas\s+default\b/ },
  { what: 'use unknown', code: /(?<![.\w])any\b(?!\s*\()/ },
];

/** Where a timer may stand in tests: the deadline of a wait, and latency imitated by the proxy. */
const timersAllowedIn = ['test/support/diagnostics', 'test/support/proxy'];

const isGenerated = ({ path }: SourceFile): boolean => path.endsWith('.generated.ts');
const src = filesUnder('src', ['.ts']).filter((file) => !isGenerated(file));
const tests = filesUnder('test', ['.ts', '.mjs']);
const ours = [...src, ...tests, ...filesUnder('bench', ['.mjs', '.ts']), ...filesUnder('scripts', ['.mjs'])];
const text = filesUnder('', [
  '.ts',
  '.mjs',
  '.js',
  '.json',
  '.md',
  '.sql',
  '.yml',
  '.html',
  '.css',
  '/run',
  '.npmrc',
]);
const manifest = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as Manifest;

const file = (path: string, ...lines: string[]): SourceFile => ({ path, text: `${lines.join('\n')}\n` });

describe('the scanner under the rules', () => {
  test('tells code, comments and literals apart', () => {
    const given = "a('x // y', `t ${b({ c: `n` })} u`); // d 'e'\n/* f */ g = /[/'\"]h/.test(i) / j / k;";
    const { code, comments, literals } = scan(given);
    expect(code.replace(/ +/g, ' ')).toBe("a(' ', ` ${b({ c: ` ` })} `); \n g = / /.test(i) / j / k;");
    expect(comments.trim().split(/\s*\n\s*/)).toEqual(["// d 'e'", '/* f */']);
    expect(literals.split(/\s{2,}/).map((each) => each.trim())).toEqual(
      expect.arrayContaining(['x // y', 'n', `[/'"]h`]),
    );
    expect([code, comments, literals].map((each) => each.length)).toEqual(
      Array.from({ length: 3 }, () => given.length),
    );
  });

  test('finds imports of every form, and none in comments or strings', () => {
    const found = importsOf(
      file(
        'src/a.ts',
        "import type { A } from './a.ts';",
        "import './b.ts';",
        "export * from './c.ts';",
        "const d = await import('./d.ts');",
        "// import './e.ts';",
        'const f = "from \'./f.ts\'";',
        'import {',
        '  G,',
        "} from 'g';",
      ),
    );
    expect(found).toEqual(['./a.ts', './b.ts', './c.ts', './d.ts', 'g']);
  });

  test('reports the line of a finding', () => {
    expect(findIn(file('src/a.ts', '', 'b();'), 'code', /b/)).toEqual(['src/a.ts:2: b']);
  });
});

describe('layers', () => {
  const imports = (path: string, specifier: string): number =>
    forbiddenImports([file(path, `import { x } from '${specifier}';`)], layers).length;

  test.each([
    ['src/client/client.ts', '../log/append.ts'],
    ['src/util/abort.ts', '../db/pool.ts'],
    ['src/log/append.ts', '../index.ts'],
    ['src/log/append.ts', 'sluice'],
    ['src/cli/tail.ts', '../log/append.ts'],
    ['src/http.ts', './index.ts'],
    ['src/log/append.ts', '../../package.json'],
    ['src/novel/a.ts', '../util/abort.ts'],
  ])('%s must not import %s', (path, specifier) => {
    expect(imports(path, specifier)).toBe(1);
  });

  test.each([
    ['src/http/router.ts', '../tail/tail.ts'],
    ['src/http/router.ts', './events/frames.ts'],
    ['src/client/state.ts', '../util/backoff.ts'],
    ['src/cli/demo/shop.ts', '../../index.ts'],
    ['src/index.ts', './log/append.ts'],
  ])('%s may import %s', (path, specifier) => {
    expect(imports(path, specifier)).toBe(0);
  });

  test('src keeps to the table', () => {
    expect(forbiddenImports(src, layers)).toEqual([]);
    const isEmpty = (layer: string): boolean => !src.some(({ path }) => path.startsWith(`src/${layer}/`));
    expect(Object.keys(layers).filter(isEmpty)).toEqual([]);
  });

  test('no file is left over that nobody imports', () => {
    const files = [file('src/index.ts', "import './log/a.ts';"), file('src/log/a.ts'), file('src/log/b.ts')];
    expect(leftOver(files)).toEqual(['src/log/b.ts']);
    expect(leftOver(src)).toEqual(['src/cli/demo/page/page.ts']); // the page asks for it
  });

  test('npm packages are imported only where the table says', () => {
    const fixture = file('src/log/append.ts', "import pg from 'pg';", "import { z } from '@scope/zod/v4';");
    expect(forbiddenPackages([fixture], packages)).toHaveLength(2);
    expect(forbiddenPackages([{ ...fixture, path: 'src/db/pool.ts' }], packages)).toHaveLength(1);
    expect(forbiddenPackages(src, packages)).toEqual([]);
  });

  test('the files directly in src are the entry points of package.json', () => {
    expect(
      strayEntries([file('src/facade.ts'), file('src/index.ts'), file('src/cli.ts')], manifest),
    ).toHaveLength(1);
    expect(strayEntries(src, manifest)).toEqual([]);
  });
});

describe('sizes', () => {
  const lines = (count: number): SourceFile =>
    file('src/log/a.ts', ...Array.from({ length: count }, () => 'x;'));

  test('no file over 300 lines', () => {
    expect(texture.tooLong([lines(300), lines(301)], 300)).toHaveLength(1);
    expect(texture.tooLong(src, 300)).toEqual([]);
  });

  test('the median file stays under 100 lines', () => {
    expect(texture.medianLines([lines(10), lines(500), lines(40)])).toBe(40);
    expect(texture.medianLines(src)).toBeLessThan(100);
  });

  test('the linter caps files and functions, and nothing loosens that for src', () => {
    const config = JSON.parse(readFileSync(`${root}.oxlintrc.json`, 'utf8')) as {
      options: unknown;
      rules: Record<string, unknown>;
      overrides: { files: string[] }[];
    };
    expect(config.options).toEqual({ typeAware: true, denyWarnings: true });
    expect(config.rules['max-lines']).toEqual(['error', { max: 300 }]);
    expect(config.rules['max-lines-per-function']).toEqual(['error', expect.objectContaining({ max: 60 })]);
    const elsewhere = /^(?:test|bench|scripts)\/|^vitest\.config\.ts$/;
    expect(config.overrides.flatMap(({ files }) => files).filter((glob) => !elsewhere.test(glob))).toEqual(
      [],
    );
  });

  test('no check is switched off by a comment', () => {
    const fixture = [
      file('src/a/b.ts', '// oxlint-disable-next-line'),
      file('test/c.test.ts', '/* eslint-disable */'),
      file('src/a/d.ts', '// @ts-ignore'),
      file('src/a/e.ts', '// @ts-expect-error why'),
      file('test/types/f.ts', '// @ts-expect-error why'),
      file('src/a/g.ts', "const told = '@ts-ignore';"),
    ];
    expect(texture.disabledChecks(fixture)).toHaveLength(4);
    expect(texture.disabledChecks(ours)).toEqual([]);
  });
});

describe('names and openings', () => {
  test('no vague file names, no barrels inside layers', () => {
    const vague = [
      'src/log/utils.ts',
      'src/db/types.ts',
      'src/http/index.ts',
      'src/util/helpers.ts',
      'src/log/common.ts',
    ];
    expect(
      texture.vagueNames([...vague, 'src/index.ts', 'src/log/append.ts'].map((path) => file(path))),
    ).toEqual(vague);
    expect(texture.vagueNames(src)).toEqual([]);
  });

  test('kebab-case', () => {
    const named = ['src/log/readPages.ts', 'src/log/read-pages.ts', 'src/db/sql.generated.ts'].map((path) =>
      file(path),
    );
    expect(texture.notKebabCase(named)).toEqual(['src/log/readPages.ts']);
    expect(texture.notKebabCase([...src, ...tests])).toEqual([]);
  });

  test('each file opens with a comment of what it owns', () => {
    const fixture = [
      file('src/a/bare.ts', "import './b.ts';"),
      file('src/a/curt.ts', '// Stuff.', 'x;'),
      file('src/a/told.ts', '// Owns the one thing that this fixture is about, and nothing else.', 'x;'),
      file(
        'src/cli.ts',
        '#!/usr/bin/env node',
        '// Owns the command line: the arguments and nothing they cause.',
      ),
    ];
    expect(texture.unopened(fixture).map((line) => line.split(':')[0])).toEqual([
      'src/a/bare.ts',
      'src/a/curt.ts',
    ]);
    expect(texture.unopened([...src, ...tests])).toEqual([]);
  });
});

describe('what code must not contain', () => {
  test.each([
    ['console.error(error);'],
    ['const url = process.env.DATABASE_URL;'],
    ['const now = Date.now();'],
    ['const now = new Date();'],
    ['const jitter = Math.random();'],
    ["import { EventEmitter } from 'node:events';"],
    ['export enum Color {}'],
    ['export namespace wire {}'],
    ['export default connect;'],
    ['let value: any;'],
    ['const list = value as any[];'],
    ['new Map<string, any>();'],
  ])('%s', (line) => {
    expect(texture.bannedCode([file('src/log/a.ts', line)], bans)).toHaveLength(1);
    expect(
      texture.bannedCode([file('src/log/a.ts', `// ${line}`, `const told = ${JSON.stringify(line)};`)], bans),
    ).toEqual([]);
  });

  test('AbortSignal.any and dates made from something are no offence', () => {
    expect(texture.bannedCode([file('src/log/a.ts', 'AbortSignal.any([a]); new Date(at);')], bans)).toEqual(
      [],
    );
  });

  test('src contains none of it, and no exception outlives its need', () => {
    expect(texture.bannedCode(src, bans)).toEqual([]);
    const named = bans.map((ban) => ({
      ...ban,
      allowedIn: (ban.allowedIn ?? []).filter((place) => place.split('/').length > 2),
    }));
    expect(
      texture.needlessExceptions([file('src/log/a.ts')], [{ ...bans[2]!, allowedIn: ['src/log/a'] }]),
    ).toHaveLength(1);
    expect(texture.needlessExceptions(src, named)).toEqual([]);
  });

  test('SQL in code is lower case', () => {
    expect(
      texture.upperCaseSqlInCode([file('src/log/a.ts', "query('SELECT 1');", "query('select 1');")]),
    ).toHaveLength(1);
    expect(texture.upperCaseSqlInCode(src)).toEqual([]);
  });
});

describe('sql', () => {
  const functions = filesUnder('sql/functions', ['.sql']);
  const all = filesUnder('sql', ['.sql']);
  const good =
    'create or replace function :"schema".ring() returns void\nlanguage sql\nset search_path = pg_catalog\nas $$\n$$;';

  test('each file of sql/functions is one function of its name, with a pinned search_path', () => {
    expect(unruly([file('sql/functions/ring.sql', good)])).toEqual([]);
    expect(unruly([file('sql/functions/rang.sql', good)])).toHaveLength(1);
    expect(unruly([file('sql/functions/ring.sql', good, good)])).toHaveLength(1);
    expect(
      unruly([file('sql/functions/ring.sql', good.replace('set search_path = pg_catalog\n', ''))]),
    ).toHaveLength(1);
    expect(unruly([file('sql/functions/ring.sql', good.replace('set ', '-- set '))])).toHaveLength(1);
    const parsed =
      'create or replace function :"schema".ring() returns void\nlanguage sql\nbegin atomic\n  select 1;\nend;';
    expect(unruly([file('sql/functions/ring.sql', parsed)])).toEqual([]);
    expect(unruly(functions)).toEqual([]);
  });

  test('keywords are in lower case', () => {
    expect(
      upperCaseKeywords([file('sql/functions/a.sql', "-- NOT here\nselect 'NOT here' from x WHERE y")]),
    ).toEqual(['sql/functions/a.sql:2: WHERE in upper case']);
    expect(upperCaseKeywords(all)).toEqual([]);
  });

  test('each file opens with a comment', () => {
    expect(
      uncommented([file('sql/functions/a.sql', good), file('sql/functions/b.sql', '-- Rings.', good)]),
    ).toHaveLength(1);
    expect(uncommented(all)).toEqual([]);
  });
});

describe('the package as a whole', () => {
  test('no path of one machine stands in it', () => {
    // Put together here, so that the rule does not find its own fixture.
    const home = ['', 'home', 'ann'].join('/');
    expect(
      texture.machinePaths([file('docs/a.md', `see ${home}/x`, `cd '${home}'`, `https://x.org${home}`)]),
    ).toHaveLength(2);
    expect(texture.machinePaths(text)).toEqual([]);
  });

  test('the lock file names no registry', () => {
    const lock = readFileSync(`${root}package-lock.json`, 'utf8');
    const resolved = (content: string): boolean => /"resolved"\s*:/.test(content);
    expect(resolved('{ "resolved": "https://registry.example/a.tgz" }')).toBe(true);
    expect(resolved(lock)).toBe(false);
    expect(existsSync(`${root}.npmrc`) && /registry/.test(readFileSync(`${root}.npmrc`, 'utf8'))).toBe(false);
  });

  test('the change log has a section for what is not released yet', () => {
    const hasUnreleased = (log: string): boolean => /^## \[?Unreleased\]?\s*$/m.test(log);
    expect(hasUnreleased('# Changes\n\n## 0.1.0\n')).toBe(false);
    expect(hasUnreleased('# Changes\n\n## [Unreleased]\n')).toBe(true);
    const log = `${root}CHANGELOG.md`;
    expect(!existsSync(log) || hasUnreleased(readFileSync(log, 'utf8'))).toBe(true);
  });
});

describe('the tests themselves', () => {
  test('none waits by the clock', () => {
    const fixture = [
      file('test/db/a.test.ts', 'await new Promise((done) => setTimeout(done, 50));'),
      file('test/db/b.test.ts', "import { setTimeout as nap } from 'node:timers/promises';"),
      file('test/support/diagnostics.ts', 'setTimeout(check, 10);'),
    ];
    expect(new Set(texture.sleeps(fixture, timersAllowedIn).map((line) => line.split(':')[0]))).toEqual(
      new Set(['test/db/a.test.ts', 'test/db/b.test.ts']),
    );
    expect(texture.sleeps(tests, timersAllowedIn)).toEqual([]);
  });

  test('none is switched off, singled out or mocked', () => {
    const lines = [
      'test.only(name, f);',
      'describe.skip(name, f);',
      'test.todo(name);',
      'it.skip.each(x);',
      "vi.mock('pg');",
      'xit(name, f);',
    ];
    const fixture = lines.map((line) => file('test/db/a.test.ts', line));
    expect(texture.switchedOff(fixture)).toHaveLength(lines.length);
    expect(texture.switchedOff(tests.filter(({ path }) => path.endsWith('.test.ts')))).toEqual([]);
  });
});
