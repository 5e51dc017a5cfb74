// Guards NDJSON on standard input: every line an event in order, memory bounded, progress on standard error, and after
// a bad line, a signal or a failure an honest account of what stays. Nothing is appended twice or left out.
import { connect, type Sluice } from 'sluice';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';
import { useCli, type Finished, type Running } from '../support/process.ts';

const db = useDatabase({ allowOpenSessions: true });
const cli = useCli();

let client: Sluice;
beforeAll(async () => {
  client = await connect({ connectionString: db.connectionString });
});
afterAll(() => client.close());

const sluice = (args: readonly string[], input: string | Uint8Array): Promise<Finished> =>
  cli.run(args, { env: { DATABASE_URL: db.connectionString }, input });
const start = (args: readonly string[], input: string | null): Running =>
  cli.start(args, { env: { DATABASE_URL: db.connectionString }, input });
const stored = async (name: string): Promise<unknown[]> => {
  const stream = client.stream(name);
  const all: unknown[] = [];
  for (let page = await stream.read(); ; page = await stream.read({ after: page.cursor })) {
    all.push(...page.events.map(({ data }) => data));
    if (page.upToDate) return all;
  }
};
const head = async (name: string): Promise<bigint> => (await client.stream(name).info())?.head ?? 0n;
const numbers = (count: number): number[] => Array.from({ length: count }, (_, n) => n);
const lines = (values: readonly unknown[]): string =>
  values.map((value) => `${JSON.stringify(value)}\n`).join('');

describe.each([
  ['append', 'appended'],
  ['publish', 'published'],
])('%s', (command, done) => {
  test('10 000 lines, each an event, in order', async () => {
    const name = `${command} many`;
    const { code, stdout, stderr } = await sluice([command, name, '-', '--json'], lines(numbers(10_000)));
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(JSON.parse(stdout)).toMatchObject({ stream: name, count: 10_000 });
    await until(async () => (await head(name)) === 10_000n);
    expect(await stored(name)).toEqual(numbers(10_000));
  });

  test('a bad line: which one, what is wrong with it, and what stays', async () => {
    const name = `${command} bad`;
    const { code, stdout, stderr } = await sluice(
      [command, name, '-'],
      `${lines(numbers(1200))}{"n":\n"after"\n`,
    );
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(
      new RegExp(`^error: line 1201 is not JSON: .+; 1200 events were ${done} before that and stay\\n$`, 'm'),
    );
    await until(async () => (await head(name)) === 1200n);
    expect(await stored(name)).toEqual(numbers(1200));
  });

  test('a line that is refused in the middle of a batch', async () => {
    const name = `${command} large`;
    const input = lines([...numbers(10), 'x'.repeat(1_100_000), 'after']);
    const { code, stderr } = await sluice([command, name, '-', '--json'], input);
    expect(code).toBe(1);
    expect(JSON.parse(stderr)).toEqual({
      error: {
        code: 'payload_too_large',
        message: expect.stringMatching(/^line 11 was refused: .*; 10 events were/),
      },
    });
    await until(async () => (await head(name)) === 10n);
    expect(await stored(name)).toEqual(numbers(10));
  });
});

test('lines are appended as they come, not only when many have', async () => {
  const append = start(['append', 'slow', '-'], null);
  for (const n of numbers(3)) {
    append.child.stdin.write(`${n}\n`);
    await until(async () => (await head('slow')) === BigInt(n + 1));
  }
  append.child.stdin.end('"the last line, without an end"');
  expect(await append.finished).toMatchObject({ code: 0 });
  expect(await stored('slow')).toEqual([0, 1, 2, 'the last line, without an end']);
});

test('standard input is read without the dash too, when something is piped in', async () => {
  const { code, stdout, stderr } = await sluice(['append', 'piped'], '1\r\n\r\n  \n2\n\n');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '2 events appended\n' });
  expect(stdout).toMatch(/^2 events appended to piped: offsets 1 to 2, cursor \S+\n$/);
  expect(await stored('piped')).toEqual([1, 2]);
});

test('nothing in, nothing appended', async () => {
  const { code, stdout } = await sluice(['append', 'nothing', '-', '--json'], '\n\n');
  expect([code, JSON.parse(stdout)]).toEqual([
    0,
    { stream: 'nothing', count: 0, first: null, last: null, cursor: null },
  ]);
  expect(await client.stream('nothing').info()).toBeNull();
});

test('progress is told on standard error, by lines where nobody watches', async () => {
  const { stderr } = await sluice(['append', 'progress', '-'], lines(numbers(25_000)));
  const told = stderr
    .trimEnd()
    .split('\n')
    .map((line) => Number(/^(\d+) events appended$/.exec(line)?.[1]));
  expect(told.at(-1)).toBe(25_000);
  expect(told.length).toBeGreaterThan(1);
  expect(told.length).toBeLessThan(5);
});

test.each([
  ['not UTF-8', Buffer.from([0x31, 0x0a, 0x22, 0xff, 0x22, 0x0a]), /^line 2 is not UTF-8; 1 events/],
  ['a lone byte order mark', Buffer.from('\ufeff1\n\ufeff2\n'), /^line 2 is not JSON: .*; 1 events/],
  ['too long to be held', 'x'.repeat(5 * 2 ** 20), /^line 1 is longer than 4194304 bytes; 0 events/],
])('a line that is %s', async (what, input, message) => {
  const { code, stderr } = await sluice(['append', `bad: ${what}`, '-', '--json'], input);
  expect(code).toBe(1);
  expect(JSON.parse(stderr)).toMatchObject({ error: { message: expect.stringMatching(message) } });
});

test('a signal ends it after the lines that were read, and says how many stay', async () => {
  const append = start(['append', 'interrupted', '-', '--json'], null);
  append.child.stdin.write(lines(numbers(5)));
  await until(async () => (await head('interrupted')) === 5n);
  append.kill('SIGTERM');
  const { code, stdout, stderr } = await append.finished;
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  expect(JSON.parse(stderr)).toEqual({
    error: {
      code: 'interrupted',
      message: 'interrupted by SIGTERM; 5 events were appended before that and stay',
    },
  });
});

test('a bad line ends it although more might come', async () => {
  const append = start(['append', 'open', '-'], null);
  append.child.stdin.write('1\nnonsense\n');
  expect(await append.finished).toMatchObject({ code: 1 });
});

test('a lost connection: which lines may have been appended too', async () => {
  await client.createStream('lost');
  const holder = await db.pool.connect();
  await holder.query(`begin; select from sluice.streams where name = 'lost' for update`);
  const append = start(['append', 'lost', '-', '--json'], '1\n2\n');
  const waiting = `select pid from pg_stat_activity where wait_event_type = 'Lock' and query like '%append_batch%'
    and datname = current_database()`;
  await until(async () => (await db.query(waiting)).rows.length === 1);
  await db.query(`select pg_terminate_backend(pid) from (${waiting}) w`);
  const { code, stderr } = await append.finished;
  await holder.query('rollback');
  holder.release();
  expect(code).toBe(1);
  const message = /; 0 events were appended before that and stay; lines 1 to 2 may have been appended too$/;
  expect(JSON.parse(stderr)).toMatchObject({
    error: { code: 'connection_lost', message: expect.stringMatching(message) },
  });
});

describe('standard output whose reader leaves', () => {
  test('ends tail quietly, with 0', async () => {
    await client.stream('head').appendMany(numbers(10_000).map((n) => ({ data: `${n}`.padEnd(100, '.') })));
    for (const follow of [[], ['--follow']]) {
      const tail = start(['tail', 'head', ...follow], '');
      await tail.says(/^1\t/m);
      tail.child.stdout.destroy();
      expect(await tail.finished).toMatchObject({ code: 0, stderr: '' });
    }
  });
});
