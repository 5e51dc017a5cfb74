// Guards what the command line tells of undeliverable events and does with them: as text and as JSON, of one stream, by id
// or all of them.
import { connect } from 'sluice';
import { beforeAll, expect, test } from 'vitest';
import { useCommands } from '../support/commands.ts';
import { useDatabase } from '../support/database.ts';
import { pass } from '../support/log-sql.ts';

const db = useDatabase();
const { run, done, json } = useCommands(db);

beforeAll(async () => {
  await using sluice = await connect({ connectionString: db.connectionString, relay: false });
  for (const name of ['orders', 'a\u202eb']) {
    const stream = sluice.stream(name);
    await sluice.createStream(name);
    await stream.publish({ n: 1 }, { type: 'order.placed', key: 'k\tl' });
    await stream.publish({ n: 2 });
    await sluice.deleteStream(name);
    await pass(db);
  }
});

const time = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const ids = async (...args: string[]): Promise<string[]> =>
  ((await json('undeliverable', 'ls', ...args)) as { id: string }[]).map(({ id }) => id);

test.each<[string[], RegExp]>([
  [['drop'], /give --id for each event to drop, or --all/],
  [['drop', '--all', '--id', '1'], /give --id for each event to drop, or --all/],
  [['drop', '--id', 'all'], /--id is "all"; give an id as `sluice undeliverable ls` prints it/],
  [['drop', '--id', '1', '--id', '-2'], /--id is "-2"/],
  [['drop', '1'], /too many arguments/],
  [['bury'], /unknown command 'bury'/],
])('%j is refused, and drops nothing', async (args, says) => {
  const failed = await run(['undeliverable', ...args, '--json']);
  expect(failed).toMatchObject({ code: 2, stdout: '' });
  const { error } = JSON.parse(failed.stderr) as { error: object };
  expect(error).toEqual({ code: 'usage', message: expect.stringMatching(says) as string });
  expect((await db.query('select from sluice.undeliverable')).rowCount).toBe(4);
});

test('ls prints them, or those of a stream', async () => {
  const lines = (await done('undeliverable', 'ls')).split('\n');
  expect(lines.slice(0, 2).map((line) => line.split('\t'))).toEqual([
    ['1', expect.stringMatching(time), 'stream_deleted', 'orders', 'order.placed', 'k l', '{"n":1}'],
    ['2', expect.stringMatching(time), 'stream_deleted', 'orders', '-', '-', '{"n":2}'],
  ]);
  expect(lines[2]).toContain('\ta\\u202eb\t');
  expect(await json('undeliverable', 'ls', '--stream', 'orders')).toEqual([
    {
      id: '1',
      stream: 'orders',
      reason: 'stream_deleted',
      publishedAt: expect.stringMatching(time) as string,
      type: 'order.placed',
      key: 'k\tl',
      data: { n: 1 },
    },
    expect.objectContaining({ id: '2', data: { n: 2 } }) as object,
  ]);
});

test('drop takes those that are named, or all', async () => {
  expect(await done('undeliverable', 'drop', '--id', '1', '--id', '3', '--id', '99')).toBe('2 dropped\n');
  expect(await ids()).toEqual(['2', '4']);
  expect(await ids('--stream', 'orders')).toEqual(['2']);
  expect(await json('undeliverable', 'drop', '--all')).toEqual([{ dropped: 2 }]);
  expect(await run(['undeliverable', 'ls'])).toMatchObject({
    code: 0,
    stdout: '',
    stderr: 'there are no such undeliverable events\n',
  });
});

test('without a word for what to do it prints its help', async () => {
  const { code, stdout, stderr } = await run(['undeliverable']);
  expect(code).toBe(2);
  expect(stdout + stderr).toMatch(/ls .*drop /s);
});
