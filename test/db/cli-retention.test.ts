// Guards what the command line does about what streams keep: bounds with units, given, changed and taken away; trims; what
// it says of both, as text and as JSON; one line and exit code 2 for what makes no sense; and names of every kind.
import { connect } from 'sluice';
import { beforeAll, describe, expect, test } from 'vitest';
import { useCommands } from '../support/commands.ts';
import { useDatabase } from '../support/database.ts';

const db = useDatabase();
const { run, done, json: values } = useCommands(db);
const json = async (...args: string[]): Promise<unknown> => (await values(...args))[0];

beforeAll(async () => {
  await using client = await connect({ connectionString: db.connectionString, relay: false });
  await client.stream('ten').appendMany(Array.from({ length: 10 }, (_, n) => ({ data: n })));
});

test('bounds: given, shown, changed, taken away', async () => {
  const made = await done('create', 'kept', '--max-age', '7d', '--max-count', '1000', '--max-bytes', '2GiB');
  expect(made).toMatch(/^keeps {4}at most 7d, 1000 events, 2147483648 bytes$/m);
  const retention = { maxAgeMs: 604_800_000, maxCount: 1000, maxBytes: 2 ** 31 };
  expect(await json('info', 'kept')).toMatchObject({ name: 'kept', retention });
  expect(await json('configure', 'kept', '--max-age', 'none', '--max-bytes', '1.5 kB')).toMatchObject({
    retention: { maxCount: 1000, maxBytes: 1500 },
  });
  expect(await done('configure', 'kept', '--max-count', 'none', '--max-bytes', 'none')).toMatch(
    /^keeps {4}everything$/m,
  );
});

test('trim says what went, and info what is left', async () => {
  expect(await done('trim', 'ten', '--before', '4')).toBe('3 events trimmed; the oldest is 4\n');
  expect(await json('trim', 'ten', '--max-count', '5', '--max-age', '10m')).toEqual({
    stream: 'ten',
    oldest: '6',
    removed: '2',
  });
  const info = await done('info', 'ten');
  for (const line of [
    /^oldest {3}6$/m,
    /^events {3}5$/m,
    /^bytes {4}5$/m,
    /^rate {5}[\d.]+ \/s in the last minute/m,
  ]) {
    expect(info).toMatch(line);
  }
  expect(await json('streams', 'ten')).toMatchObject({ head: '10', oldest: '6', count: '5', retention: {} });
  const lost = await run(['tail', 'ten', '--after', '2']);
  expect(lost).toMatchObject({ code: 1, stdout: '' });
  expect(lost.stderr).toMatch(
    /^error: .*offset 2: the events after it were trimmed.*oldest, 6: --after \S+\n$/,
  );
  expect(await done('tail', 'ten', '--after', '5')).toMatch(/^6\t/);
});

describe('what makes no sense', () => {
  test.each<[string[], 1 | 2, string, RegExp]>([
    [['trim', 'ten'], 2, 'usage', /nothing says what to trim: give --before, --max-age or --max-count/],
    [['trim', 'ten', '--before', '12'], 2, 'usage', /before offset 12: its head is 10; before 11 trims all/],
    [['trim', 'ten', '--before', '1.5'], 2, 'usage', /--before is "1\.5"; give an offset/],
    [['trim', 'ten', '--before', 'end'], 2, 'usage', /--before is "end"/],
    [
      ['trim', 'ten', '--max-age', '7 weeks'],
      2,
      'usage',
      /--max-age is "7 weeks"; give .*units: ms, s, m, h, d/,
    ],
    [['trim', 'ten', '--max-count', '1k'], 2, 'usage', /--max-count is "1k"; give a whole number/],
    [['trim', 'none such', '--max-count', '1'], 1, 'stream_not_found', /'none such' does not exist/],
    [['create', 'x', '--max-count', '0'], 2, 'usage', /--max-count is 0; .*give more than 0/],
    [['create', 'x', '--max-bytes', '1 mb'], 2, 'usage', /--max-bytes is "1 mb"; give .*MB.*MiB/],
    [['create', 'x', '--max-age', '1e9d'], 2, 'usage', /--max-age is "1e9d"/],
    [['create', 'x', '--max-age', '99999999999999d'], 2, 'usage', /--max-age is "99999999999999d"/],
    [['create', 'x', '--max-count', 'none'], 2, 'usage', /--max-count is "none"/],
    [['configure', 'ten'], 2, 'usage', /nothing says what to change: give --max-age/],
    [['configure', 'none such', '--max-age', '1s'], 1, 'stream_not_found', /'none such' does not exist/],
  ])('%j', async (args, code, told, says) => {
    const failed = await run(['--json', ...args]);
    expect(failed).toMatchObject({ code, stdout: '' });
    const { error } = JSON.parse(failed.stderr) as { error: { code: string; message: string } };
    expect(error).toMatchObject({ code: told, message: expect.stringMatching(says) });
  });
});

test.each([
  ['odd characters', `🧾/it's "quoted" \\?a=b&c`],
  ['512 bytes that look like an option', `--after${'🧾'.repeat(126)}x`],
])('a name with %s goes through every command', async (_, name) => {
  const on = (command: string, ...more: string[]): Promise<unknown> => json(command, '--', name, ...more);
  expect(await on('create')).toMatchObject({ name });
  expect(await on('append', '1')).toMatchObject({ stream: name, offset: '1' });
  expect(await on('publish', '2')).toMatchObject({ stream: name });
  expect(await json('trim', '--before', '2', '--', name)).toEqual({
    stream: name,
    oldest: '2',
    removed: '1',
  });
  expect(await on('tail')).toMatchObject({ stream: name, offset: '2', data: 2 });
  expect(await json('configure', '--max-count', '5', '--', name)).toMatchObject({
    retention: { maxCount: 5 },
  });
  expect(await on('info')).toMatchObject({ name, head: '2', count: '1' });
  expect(await on('streams')).toMatchObject({ name });
  expect(await on('delete')).toEqual({ deleted: name });
});
