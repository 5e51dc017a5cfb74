// Guards the documents: every code fence of README.md and docs/ is what a reader would get by copying it. TypeScript and
// JavaScript are type-checked against the built package and, where marked, run on a database of their own; so is marked
// SQL; shell fences name only commands that exist. How to mark a fence: test/support/fences.ts.
import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { Client } from 'pg';
import { createTestDatabase } from 'sluice/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { fencesOf, programOf, unknownCommands, type Commands, type Fence } from '../support/fences.ts';
import { checkPrograms, type Checked } from '../support/programs.ts';
import { filesUnder, root } from '../support/tidy/files.ts';

const bar = '```';
const fixture = fencesOf({
  path: 'fixture.md',
  text: `# Fixture
${bar}ts
const wrong: number = 'text';
${bar}
<!-- run -->
${bar}ts
import { Client } from 'pg';
const client = new Client({ connectionString: process.env['DATABASE_URL'] });
await client.connect();
console.log((await client.query("select to_regnamespace('sluice') as found")).rows[0].found);
${bar}

- in a list

  <!-- continue, run -->

  ${bar}typescript
  await client.end();
  console.log('ended');
  ${bar}

<!-- a comment that is no mark -->
${bar}js
throw new Error('never run');
${bar}
<!-- run -->
${bar}sql
select missing();
${bar}
${bar}bash
npm ci && npm start
npm run bench -- fanout
npm run dance
DATABASE_URL=postgres:/// npx sluice tail orders
npx sluice shout orders
${bar}
`,
});

const documents = [
  ...(existsSync(`${root}README.md`) ? ['README.md'] : []),
  ...filesUnder('docs', ['.md']).map(({ path }) => path),
];
const fences = documents.flatMap((path) => fencesOf({ path, text: readFileSync(root + path, 'utf8') }));

const nameOf = ({ path, line, language }: Fence): string =>
  `${path.replaceAll('/', '-')}-${line}.m${language}`;
const isProgram = ({ language }: Fence): boolean => language === 'ts' || language === 'js';
const isRun = ({ marks }: Fence): boolean => marks.includes('run');
const listed = (chosen: readonly Fence[]): { place: string; fence: Fence }[] =>
  chosen.map((fence) => ({ place: `${fence.path}:${fence.line}`, fence }));

/** Runs `use` with the URL of a fresh, migrated database. */
const withDatabase = async <T>(use: (connectionString: string) => Promise<T>): Promise<T> => {
  const database = await createTestDatabase({ template: process.env['SLUICE_TEST_TEMPLATE'] });
  try {
    return await use(database.connectionString);
  } finally {
    await database.drop();
  }
};

const runSql = ({ text }: Fence): Promise<void> =>
  withDatabase(async (connectionString) => {
    const client = new Client({ connectionString });
    await client.connect();
    try {
      await client.query(text);
    } finally {
      await client.end();
    }
  });

const runProgram = (fence: Fence): Promise<string> =>
  withDatabase((connectionString) => checked.run(nameOf(fence), { DATABASE_URL: connectionString }));

/** The commands the built CLI lists in its help. */
const cliCommands = async (): Promise<string[]> => {
  const { stdout } = await promisify(execFile)(process.execPath, [`${root}dist/cli.js`, '--help']);
  const list = stdout.split(/^Commands:$/m)[1] ?? '';
  return [...list.matchAll(/^ {2}([a-z][\w-]*)/gm)].map((match) => match[1]!);
};

let checked: Checked;

beforeAll(async () => {
  const all = [...fixture, ...fences];
  checked = await checkPrograms(
    Object.fromEntries(all.filter(isProgram).map((fence) => [nameOf(fence), programOf(fence, all)])),
  );
});
afterAll(() => checked.close());

describe('the rules, on a fixture', () => {
  const [wrong, first, continued, thrower, sql, shell] = fixture as [
    Fence,
    Fence,
    Fence,
    Fence,
    Fence,
    Fence,
  ];

  test('fences are found with their place, language and marks', () => {
    expect(fixture.map(({ line, language, marks }) => [line, language, marks])).toEqual([
      [3, 'ts', []],
      [7, 'ts', ['run']],
      [18, 'ts', ['continue', 'run']],
      [24, 'js', []],
      [28, 'sql', ['run']],
      [31, 'sh', []],
    ]);
    expect(continued.text).toBe("await client.end();\nconsole.log('ended');");
  });

  test('a misspelt mark, an open fence and a continuation of nothing are refused', () => {
    const read = (text: string): Fence[] => fencesOf({ path: 'a.md', text });
    expect(() => read(`<!-- runs -->\n${bar}ts\n${bar}`)).toThrow('a.md:1: unknown mark "runs"');
    expect(() => read(`${bar}ts\nx;`)).toThrow('never closed');
    const alone = read(`<!-- continue -->\n${bar}ts\n${bar}`);
    expect(() => programOf(alone[0]!, alone)).toThrow('no fence to continue');
  });

  test('a wrong type is reported for its fence alone', () => {
    expect(checked.errorsOf(nameOf(wrong))).toMatch(/\(1,7\): error TS2322/);
    expect([first, continued, thrower].map((fence) => checked.errorsOf(nameOf(fence)))).toEqual(['', '', '']);
  });

  test('a program runs on a migrated database, after the fence it continues', async () => {
    expect(await runProgram(continued)).toBe('sluice\nended\n');
  });

  test('a program or statement that fails is reported with its output', async () => {
    await expect(runProgram(thrower)).rejects.toThrow(/ended with 1[^]*never run/);
    await expect(runSql(sql)).rejects.toThrow(/missing\(\)/);
  });

  test('unknown commands are found, known ones are not', () => {
    const known: Commands = { sluice: ['tail'], scripts: ['start', 'bench'] };
    expect(unknownCommands(shell, known)).toEqual(['sluice shout', 'npm run dance']);
  });
});

// At the top level: a document without fences of one kind is no failure, which an empty `describe` would be.
const { scripts } = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as {
  scripts: Record<string, string>;
};
const programs = fences.filter(isProgram);

test.for(listed(programs))('$place holds', ({ fence }) => {
  expect(checked.errorsOf(nameOf(fence))).toBe('');
});

test.for(listed(programs.filter(isRun)))('$place runs', async ({ fence }) => {
  await runProgram(fence);
});

test.for(listed(fences.filter((fence) => fence.language === 'sql' && isRun(fence))))(
  '$place runs',
  ({ fence }) => runSql(fence),
);

test.for(listed(fences.filter(({ language }) => language === 'sh')))(
  '$place names commands that exist',
  async ({ fence }) => {
    const sluice = /\bsluice\b/.test(fence.text) ? await cliCommands() : [];
    expect(unknownCommands(fence, { sluice, scripts: Object.keys(scripts) })).toEqual([]);
  },
);
