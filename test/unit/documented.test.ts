// Guards that the documents and the code name the same things: what is documented exists, and what users can meet
// (channels, metrics, codes, options, rights) is documented. What a document says of them is for its readers to judge.
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { OWN_SQLSTATES } from '../../src/db/sqlstate.ts';
import { settleConsume, settleGroup } from '../../src/groups/options.ts';
import { filesUnder, root } from '../support/tidy/files.ts';

const read = (path: string): string => readFileSync(root + path, 'utf8');
const joined = (folder: string, endings: readonly string[]): string =>
  filesUnder(folder, endings)
    .map(({ text }) => text)
    .join('\n');
const documents = [
  ...['README.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'bench/README.md'].map((path) => ({
    path,
    text: read(path),
  })),
  ...filesUnder('docs', ['.md']),
];
const source = joined('src', ['.ts']);
const sql = joined('sql', ['.sql']);

const all = (text: string, expression: RegExp): string[] =>
  [...text.matchAll(expression)].map((match) => match[1]!);
/** The rows of all tables: their cells, trimmed. */
const rows = (text: string): string[][] =>
  [...text.matchAll(/^\| (.*) \|$/gm)].map(([, row = '']) =>
    row.split(/(?<!\\) ?\| ?/).map((cell) => cell.trim()),
  );
const codes = (cell = ''): string[] => all(cell, /`([^`]+)`/g);
const sorted = (names: Iterable<string>): string[] => [...new Set(names)].sort();
/** The members of an interface, as its file spells them. */
const membersOf = (path: string, name: string): string[] => {
  const body = new RegExp(String.raw`^export interface ${name} .*\{\n([^]*?)^\}`, 'm').exec(read(path))?.[1];
  return all(body ?? '', /^ {2}readonly (\w+)/gm);
};

const operations = read('docs/operations.md');

test('every diagnostics channel is documented with all that it says, and no other', () => {
  const said = new Map(
    [...read('src/util/diagnostics.ts').matchAll(/^ {2}'(sluice:[\w.]+)', \/\/ \{ (.*) \}$/gm)].map(
      ([, name = '', fields = '']) => [name, all(fields, /(\w+)\??(?=[,:]|$)/g)] as const,
    ),
  );
  expect(said.size).toBeGreaterThan(30);
  const documented = rows(operations).filter(([cell = '']) => /^`sluice:\w+\.\w+`/.test(cell));
  expect(sorted(documented.flatMap(([names]) => codes(names)))).toEqual(sorted(said.keys()));
  for (const [names, message = ''] of documented)
    for (const name of codes(names))
      for (const field of said.get(name) ?? []) expect(message, name).toMatch(new RegExp(`\\b${field}\\b`));
});

test('every metric is documented with its type, and no other', () => {
  const kinds = new Map<string, string>();
  const metrics = read('src/http/metrics.ts') + read('src/http/group-metrics.ts');
  for (const [, kind = '', name = ''] of metrics.matchAll(/\b(gauge|counter|histogram)\(\s*'(sluice_\w+)'/g))
    kinds.set(name, kind);
  for (const name of all(metrics, /\beach\('(\w+)'/g)) kinds.set(`sluice_group_${name}_total`, 'counter');
  for (const name of all(metrics, /\bnow\('(\w+)'/g)) kinds.set(`sluice_group_${name}`, 'gauge');
  expect(kinds.size).toBeGreaterThan(40);
  const documented = new Map<string, string>();
  for (const [names, types = ''] of rows(operations))
    if (names?.startsWith('`sluice_'))
      codes(names).forEach((name, at) => {
        const each = types.split(', ');
        documented.set(name, each[at] ?? each[0]!);
      });
  expect(Object.fromEntries(documented)).toEqual(Object.fromEntries(kinds));
});

test('every error code and every SQLSTATE of ours is documented, and no other', () => {
  const errors = read('docs/errors.md');
  const union = /SluiceErrorCode =([^;]*);/.exec(read('src/util/errors.ts'))?.[1] ?? '';
  const documented = rows(errors).flatMap(([code = '']) => all(code, /^`(\w+)`/g));
  expect(sorted(documented)).toEqual(sorted(all(union, /'(\w+)'/g)));
  const states = [...errors.matchAll(/`(SL\d{3})`\s+`(\w+)`/g)].map(([, state, code]) => [state, code]);
  expect(Object.fromEntries(states)).toEqual(OWN_SQLSTATES);
  expect(sorted(all(sql, /'(SL\d{3})'/g))).toEqual(sorted(Object.keys(OWN_SQLSTATES)));
});

test('every option of groups is in a table of docs/groups.md with its default, and no other', () => {
  const tables = read('docs/groups.md')
    .split(/^\| option \| default \| \|$/m)
    .slice(1);
  const [group = [], consume = []] = tables.map((text) => rows(text.split('\n\n')[0] ?? ''));
  const named = (table: string[][]): string[] => table.flatMap(([option]) => codes(option));
  expect(named(group)).toEqual(membersOf('src/groups/options.ts', 'GroupOptions'));
  expect(named(consume)).toEqual(membersOf('src/groups/options.ts', 'ConsumeOptions'));
  const defaults: Readonly<Record<string, unknown>> = { ...settleGroup({}), ...settleConsume({}, 1000) };
  const numbers = [...group, ...consume].flatMap(([option = '', given = '']) =>
    /^[\d ]+$/.test(given) ? [[codes(option)[0]!, Number(given.replaceAll(' ', ''))] as const] : [],
  );
  expect(numbers.length).toBeGreaterThan(4);
  for (const [option, value] of numbers) expect(defaults[option] ?? 0, option).toBe(value);
});

test('what is spelled like an option, a flag, a parameter or a variable exists', () => {
  const flags = new Set(all(joined('src/cli', ['.ts']) + joined('bench', ['.mjs']), /(--[a-z][a-z-]*)/g));
  const elsewhere = new Set(['--roles-only']); // of pg_dumpall
  const variables = source + joined('test', ['.ts', '.mjs']) + joined('bench', ['.mjs']);
  for (const { path, text } of documents) {
    for (const name of all(text, /`(?:\w+\.)?([a-z][A-Za-z]*(?:Ms|Bytes|Events|Streams|Url))`/g))
      expect(new RegExp(`\\b${name}\\b`).test(source), `${path}: ${name}`).toBe(true);
    for (const flag of all(text, /(?<=[\s`|])(--[a-z][a-z-]*)/g))
      if (!elsewhere.has(flag)) expect(flags, path).toContain(flag);
    for (const name of all(text, /\b(p_[a-z_]+)\b/g))
      expect(new RegExp(`\\b${name}\\b`).test(sql), `${path}: ${name}`).toBe(true);
    for (const name of all(text, /\b(SLUICE_[A-Z_]+)\b/g)) expect(variables, path).toContain(name);
  }
});

test('tables, columns, rights and functions that are documented are those that there are', () => {
  const page = read('docs/sql.md');
  const section = (text: string, heading: string): string[][] =>
    rows(text.split(`\n## ${heading}\n`)[1]?.split('\n## ')[0] ?? '');
  const tables = section(page, 'Groups').flatMap(([name]) => codes(name));
  expect(tables.length).toBeGreaterThan(5);
  for (const name of tables) expect(sql).toContain(`create table :"schema".${name} (`);

  const columns = section(operations, 'History of figures').flatMap(([cell]) => codes(cell));
  expect(columns.length).toBeGreaterThan(15);
  for (const column of columns)
    if (column !== '…_sum') expect(new RegExp(`^\\s+${column} `, 'm').test(sql), column).toBe(true);

  const known = all(read('sql/functions/rights.sql'), /\('\{([a-z,]+)\}'/g).flatMap((each) =>
    each.split(','),
  );
  const rights = section(page, 'Who may do what').flatMap(([name]) => (name === 'right' ? [] : codes(name)));
  expect(sorted(rights)).toEqual(sorted(known));

  const signatures = [...page.matchAll(/`sluice\.(\w+)\(([^`]*\bp_[^`]*)\)`/g)];
  expect(signatures.length).toBeGreaterThan(2);
  for (const [, name = '', given = ''] of signatures) {
    const text = read(`sql/functions/${name}.sql`);
    const declared = new RegExp(String.raw`function :"schema"\.${name}\(\n([^]*?)\n\)`).exec(text)?.[1] ?? '';
    const parameters = all(declared, /\b(p_\w+)/g);
    const documented = all(given, /\b(p_\w+)/g);
    expect(documented, name).toEqual(documented[0] === parameters[0] ? parameters : parameters.slice(1));
  }
});

/** As the common renderers make it of a heading. */
const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-');

test('every link to a part of a document leads to a heading', () => {
  const anchors = new Map(
    documents.map(({ path, text }) => [
      path,
      all(text.replace(/^```[^]*?^```$/gm, ''), /^#+ (.*)$/gm).map(anchorOf),
    ]),
  );
  let links = 0;
  for (const { path, text } of documents)
    for (const [, target = '', anchor = ''] of text.matchAll(/\]\((?!https?:)([^)#]*)#([^)]+)\)/g)) {
      links += 1;
      const file = new URL(target, `file:///${path}`).pathname.slice(1);
      expect(anchors.get(target === '' ? path : file), `${path}: ${target}#${anchor}`).toContain(anchor);
    }
  expect(links).toBeGreaterThan(5);
});
