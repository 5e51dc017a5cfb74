// Guards what the command line tells of groups and does with their dead letters: as text and as JSON, filtered, by
// offset or all of them; and that asking for a group does not make it.
import { connect } from 'sluice';
import { beforeAll, describe, expect, test } from 'vitest';
import { useCommands } from '../support/commands.ts';
import { useDatabase } from '../support/database.ts';

const db = useDatabase();
const { run, done, json } = useCommands(db);

beforeAll(async () => {
  await using client = await connect({ connectionString: db.connectionString, relay: false });
  const orders = client.stream('orders');
  await orders.appendMany([
    { data: { n: 1 }, type: 'a', key: 'x' },
    { data: { n: 2 }, type: 'b', key: 'x' },
    { data: { n: 3 }, type: 'b', key: 'y' },
    { data: { n: 4 } },
    { data: { n: 5 } },
  ]);
  const billing = orders.group('billing', { maxAttempts: 1 });
  const lease = await billing.claim({ max: 4 });
  const failed = lease!.events.map(({ offset }) => ({ offset, error: `no. ${offset}\tis\n\u001bbroken` }));
  await lease!.ack({ failed });
  await orders.group('audit').pause();
});

const time = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/;

describe('groups', () => {
  test('lists all, or those of a stream', async () => {
    const billing = {
      stream: 'orders',
      name: 'billing',
      cursor: '4',
      head: '5',
      lag: 1,
      inFlight: 0,
      retries: 0,
      missed: 0,
      members: 0,
      paused: false,
      partitions: null,
      oldestAgeMs: expect.any(Number) as number,
      rate: expect.any(Number) as number,
    };
    const listed = await json('groups');
    expect(listed).toMatchObject([{ name: 'audit', cursor: '0', lag: 5, paused: true }, billing]);
    expect(await json('groups', 'orders')).toHaveLength(2);
    expect(await done('groups', 'orders')).toMatch(
      /^ +0 +5 +[\d.]+(?:ms|s|m) +0 +0 +0 +0 +0 +0\/s {2}paused {2}orders\taudit\n +4 +1 +\S+ +0 +0 +\d +0 +0 +\S+\/s +open {2}orders\tbilling\n$/,
    );
  });

  test('says so where there are none, and where there is no such stream', async () => {
    await done('create', 'lonely');
    expect(await run(['groups', 'lonely'])).toMatchObject({
      code: 0,
      stdout: '',
      stderr: 'this stream has no groups yet\n',
    });
    const missing = await run(['groups', 'nothing', '--json']);
    expect(missing).toMatchObject({ code: 1, stdout: '' });
    expect(missing.stderr).toMatch(/"code":"stream_not_found"/);
  });
});

describe('dead', () => {
  const offsets = async (...args: string[]): Promise<string[]> =>
    ((await json('dead', 'ls', 'orders', 'billing', ...args)) as { event: { offset: string } }[]).map(
      ({ event }) => event.offset,
    );

  test('ls prints them, filtered', async () => {
    const text = await done('dead', 'ls', 'orders', 'billing');
    expect(text.split('\n')[0]!.split('\t')).toEqual([
      '1',
      expect.stringMatching(time),
      '1',
      'a',
      'x',
      '{"n":1}',
      'no. 1 is; \\u001bbroken',
    ]);
    expect(await json('dead', 'ls', 'orders', 'billing', '--type', 'a')).toEqual([
      {
        event: expect.objectContaining({ stream: 'orders', offset: '1', data: { n: 1 } }) as object,
        attempts: 1,
        error: 'no. 1\tis\n\u001bbroken',
        at: expect.stringMatching(time) as string,
      },
    ]);
    expect(await offsets()).toEqual(['1', '2', '3', '4']);
    expect(await offsets('--key', 'x', '--type', 'b')).toEqual(['2']);
    expect(await offsets('--error', 'no. 3')).toEqual(['3']);
    expect(await offsets('--since', '1d')).toHaveLength(4);
    expect(await offsets('--since', '2020-01-31T12:00Z')).toHaveLength(4);
    expect(await offsets('--since', '2999-01-01')).toEqual([]);
  });

  test('requeue and drop take those that are named, or all', async () => {
    expect(await done('dead', 'requeue', 'orders', 'billing', '--offset', '1', '--offset', '2')).toBe(
      '2 requeued\n',
    );
    expect(await offsets()).toEqual(['3', '4']);
    expect(await json('groups', 'orders')).toMatchObject([{}, { name: 'billing', dead: 2, lag: 3 }]);
    expect(await json('dead', 'drop', 'orders', 'billing', '--offset', '4')).toEqual([
      { stream: 'orders', group: 'billing', dropped: 1 },
    ]);
    expect(await done('dead', 'drop', 'orders', 'billing', '--all')).toBe('1 dropped\n');
    expect(await run(['dead', 'ls', 'orders', 'billing'])).toMatchObject({
      code: 0,
      stdout: '',
      stderr: 'there are no such dead letters\n',
    });
  });

  test.each<[string[], 1 | 2, string, RegExp]>([
    [['requeue', 'orders', 'billing'], 2, 'usage', /give --offset for each event to requeue, or --all/],
    [['drop', 'orders', 'billing'], 2, 'usage', /give --offset for each event to drop, or --all/],
    [['drop', 'orders', 'billing', '--all', '--offset', '1'], 2, 'usage', /--offset .* or --all/],
    [['drop', 'orders', 'billing', '--offset', 'end'], 2, 'usage', /--offset is "end"/],
    [['ls', 'orders'], 2, 'usage', /missing required argument 'group'/],
    [['bury', 'orders', 'billing'], 2, 'usage', /unknown command 'bury'/],
    [['ls', 'orders', 'billing', '--since', 'monday'], 2, 'usage', /--since is "monday"/],
    [['ls', 'orders', 'billing', '--since', '2026-13-01'], 2, 'usage', /--since is "2026-13-01"/],
    [['ls', 'orders', 'a\nb'], 2, 'name_invalid', /name/],
    [['ls', 'orders', 'nobody'], 1, 'group_not_found', /has no group .*nobody.*sluice groups/],
    [['drop', 'nothing', 'billing', '--all'], 1, 'stream_not_found', /nothing.* does not exist/],
  ])('%j is refused, and makes nothing', async (args, exit, code, says) => {
    const failed = await run(['dead', ...args, '--json']);
    expect(failed).toMatchObject({ code: exit, stdout: '' });
    const { error } = JSON.parse(failed.stderr) as { error: object };
    expect(error).toEqual({ code, message: expect.stringMatching(says) as string });
    const { rows } = await db.query('select name from sluice.groups order by name');
    expect(rows).toEqual([{ name: 'audit' }, { name: 'billing' }]);
  });

  test('without a word for what to do it prints its help', async () => {
    const { code, stdout, stderr } = await run(['dead']);
    expect(code).toBe(2);
    expect(stdout + stderr).toMatch(/ls .*requeue .*drop /s);
  });
});
