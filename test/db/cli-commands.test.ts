// Guards what each command does and prints, as text and as JSON: data on standard output and nothing else there, talk
// on standard error, exit code 0. Each runs as a process of its own against a real database.
import { connect } from 'sluice';
import { expect, test } from 'vitest';
import { useCommands } from '../support/commands.ts';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';

const db = useDatabase();
const { start, run: sluice, done, json } = useCommands(db);
const time = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/;

test('create, info, delete', async () => {
  expect(await done('create', 'made')).toMatch(
    /^name {5}made\nhead {5}0\noldest {3}1\nevents {3}0\nbytes {4}0\nrate .*\nkeeps {4}everything\nkeys {5}remembered for 1d\ncreated {2}\S+\nclosed {3}no\n$/,
  );
  const info = {
    name: 'made',
    head: '0',
    oldest: '1',
    createdAt: expect.stringMatching(time),
    closed: false,
    count: '0',
    retention: {},
    idempotencyWindowMs: 86_400_000,
    bytes: '0',
    rates: { lastMinute: 0, lastHour: 0 },
  };
  expect(await json('info', 'made')).toEqual([info]);
  expect(await done('info', 'made')).toMatch(/^name {5}made\n/);
  expect(await done('delete', 'made')).toBe('deleted made\n');
  expect(await json('create', 'made')).toEqual([{ ...info, createdAt: expect.stringMatching(time) }]);
  expect(await json('delete', 'made')).toEqual([{ deleted: 'made' }]);
});

test('append prints the offset and the cursor that follows the event', async () => {
  expect(await done('append', 'appended', '{"n":1}')).toMatch(/^offset 1 {2}cursor \S+\n$/);
  const [second] = await json('append', 'appended', '-7', '--type', 'a.b', '--key', 'k');
  expect(second).toEqual({
    stream: 'appended',
    offset: '2',
    cursor: expect.any(String) as string,
    duplicate: false,
  });
  await done('append', 'appended', '"three"');
  const { cursor } = second as { cursor: string };
  expect(await done('tail', 'appended', '--after', cursor)).toMatch(/^3\t\S+\t-\t"three"\n$/);
  expect(await json('tail', 'appended', '--after', '1')).toEqual([
    { stream: 'appended', offset: '2', type: 'a.b', key: 'k', data: -7, at: expect.stringMatching(time) },
    {
      stream: 'appended',
      offset: '3',
      type: null,
      key: null,
      data: 'three',
      at: expect.stringMatching(time),
    },
  ]);
});

test('publish is seen by the tail that comes after it', async () => {
  expect(await done('publish', 'published', '{"n":1}')).toMatch(/^id \d+\n$/);
  expect(await json('publish', 'published', '{"n":2}', '--type', 't')).toEqual([
    { stream: 'published', id: expect.stringMatching(/^\d+$/) },
  ]);
  expect(await done('tail', 'published')).toMatch(/^1\t\S+\t-\t{"n":1}\n2\t\S+\tt\t{"n":2}\n$/);
});

test('tail prints what is there, page after page, and stops at the head', async () => {
  await using client = await connect({ connectionString: db.connectionString });
  await client.stream('long').appendMany(Array.from({ length: 2500 }, (_, n) => ({ data: n })));
  const lines = (await done('tail', 'long')).trimEnd().split('\n');
  expect(lines.map((line) => line.split('\t')[3])).toEqual(Array.from({ length: 2500 }, (_, n) => String(n)));
  expect(await done('tail', 'long', '--after', 'end')).toBe('');
  expect(await done('tail', 'long', '--after', '2500')).toBe('');
  expect(await json('tail', 'long', '--after', '2499')).toHaveLength(1);
});

test('what a terminal would obey is printed as text', async () => {
  await using client = await connect({ connectionString: db.connectionString });
  const data = '\u001b[2J \u009b2J \u202e';
  await client.stream('\u202eevil').append({ data });
  const text = await done('tail', '\u202eevil');
  for (const character of ['\u001b', '\u009b', '\u202e']) expect(text).not.toContain(character);
  expect(JSON.parse(text.split('\t')[3]!)).toEqual({ data });
  expect(await done('streams', '\u202e')).toMatch(/\\u202eevil\n$/);
});

test('streams lists all, or those with a prefix, in order', async () => {
  await using client = await connect({ connectionString: db.connectionString });
  for (const name of ['list:b', 'lisp']) await client.createStream(name);
  await client.stream('list:a').append(1);
  expect(await json('streams', 'list:')).toMatchObject([
    { name: 'list:a', head: '1' },
    { name: 'list:b', head: '0' },
  ]);
  expect(await done('streams', 'list:')).toMatch(
    /^ +1 +1 +1 {2}\S+ {2}open {4}list:a\n +0 +1 +0 {2}\S+ {2}open {4}list:b\n$/,
  );
  const { stdout, stderr } = await sluice(['streams', 'nothing has this']);
  expect([stdout, stderr]).toEqual(['', 'no stream has that prefix\n']);
});

test('migrate, in a schema of any name, and the SQL it would run', async () => {
  const schema = 'Äny "name"';
  const missing = await sluice(['migrate', '--status', '--json'], { env: { SLUICE_SCHEMA: schema } });
  expect(missing).toMatchObject({
    code: 1,
    stdout: `${JSON.stringify({ schema, installed: null, ok: false })}\n`,
  });
  expect(JSON.parse(missing.stderr)).toMatchObject({ error: { code: 'schema_mismatch' } });
  expect(await json('migrate', '--schema', schema)).toEqual([{ schema, from: 0, to: expect.any(Number) }]);
  expect(await done('migrate', '--schema', schema)).toMatch(/ is up to date at version \d+\n$/);
  expect(await done('migrate', '--status', '--schema', schema)).toMatch(
    / is at version \d+, as this package needs\n$/,
  );
  expect(await done('append', 'here', '1', '--schema', schema)).toMatch(/^offset 1 /);
  expect(await json('streams', 'here')).toEqual([]);

  const sql = await done('migrate', '--print', '--schema', 'printed');
  await db.query(sql);
  expect(await done('append', 'here', '1', '--schema', 'printed')).toMatch(/^offset 1 /);
  const offline = await sluice(['migrate', '--print', '--json'], { env: { DATABASE_URL: undefined } });
  expect(JSON.parse(offline.stdout)).toMatchObject({
    schema: 'sluice',
    sql: expect.stringMatching(/^begin;/),
  });
});

test('tail --follow goes on with events as they come, until a signal ends it', async () => {
  await done('append', 'followed', '1');
  const text = start(['tail', 'followed', '--follow']);
  await text.says(/^1\t/m);
  await done('append', 'followed', '2');
  await done('publish', 'followed', '3');
  await text.says(/^3\t.*\t3$/m);
  text.kill('SIGINT');
  expect(await text.finished).toMatchObject({ code: 0, stderr: '' });
  expect(text.stdout().trimEnd().split('\n')).toHaveLength(3);
});

test('tail --follow from the end prints only what comes', async () => {
  await using client = await connect({ connectionString: db.connectionString });
  await client.stream('ended').appendMany([{ data: 1 }, { data: 2 }]);
  const tail = start(['tail', 'ended', '--follow', '--after', 'end', '--json']);
  await until(async () => {
    await client.stream('ended').append('later');
    return tail.stdout() !== '';
  });
  tail.kill('SIGTERM');
  const { code, stdout, stderr } = await tail.finished;
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const events = stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as { data: unknown; offset: string });
  expect(new Set(events.map(({ data }) => data))).toEqual(new Set(['later']));
  const first = Number(events[0]!.offset);
  expect(events.map(({ offset }) => Number(offset))).toEqual(events.map((_, index) => first + index));
});

test('a second tail goes on from the offset of the last line of the first', async () => {
  await done('append', 'resumed', '"a"');
  const last = (await done('tail', 'resumed')).split('\t')[0]!;
  await done('append', 'resumed', '"b"');
  expect(await done('tail', 'resumed', '--after', last)).toMatch(/^2\t\S+\t-\t"b"\n$/);
});

test('the database is named by the option before the environment', async () => {
  const env = { DATABASE_URL: 'postgres://127.0.0.1:1/none' };
  const { code } = await sluice(['streams', '--database-url', db.connectionString], { env });
  expect(code).toBe(0);
});

test('I10: append and publish write for one audience with --visible-to', async () => {
  await done('append', 'labelled', '1', '--visible-to', 'admins');
  await done('publish', 'labelled', '2', '--visible-to', 'admins');
  for (const command of ['append', 'publish']) {
    const { code } = await sluice([command, 'labelled', '-', '--visible-to', 'staff'], { input: '3\n4\n' });
    expect(code).toBe(0);
  }
  await using client = await connect({ connectionString: db.connectionString });
  await until(async () => (await client.stream('labelled').info())?.head === 6n);
  const { events } = await client.stream('labelled').read();
  expect(events.map(({ visibleTo }) => visibleTo)).toEqual([
    'admins',
    'admins',
    'staff',
    'staff',
    'staff',
    'staff',
  ]);
});

test('publish --delay beyond what is allowed is wrong usage', async () => {
  const outcome = await sluice(['publish', 'later', '1', '--delay', '999d']);
  expect(outcome).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/^error: delayMs is 86313600000; give a number/),
  });
});

test('publish --delay delivers later, and says so; append and publish write once per --idempotency-key', async () => {
  expect(await sluice(['publish', 'later', '1', '--delay', '1h'])).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^id \d+\n$/) as string,
    stderr: expect.stringMatching(/^due in 3600000 ms; a relay moves what is due/) as string,
  });
  expect((await db.query(`select from sluice.delayed where stream = 'later'`)).rows).toHaveLength(1);
  expect(await done('append', 'keyed', '1', '--idempotency-key', 'k')).toMatch(/^offset 1 {2}cursor \S+\n$/);
  expect(await done('append', 'keyed', '1', '--idempotency-key', 'k')).toMatch(
    /^offset 1 {2}cursor \S+ {2}duplicate\n$/,
  );
  expect(await sluice(['publish', 'keyed', '1', '--idempotency-key', 'k'])).toMatchObject({
    code: 0,
    stderr: expect.stringMatching(/^known by its key already, or not in the stream yet/) as string,
  });
  expect(await json('append', 'keyed', '2', '--expected-offset', '2')).toMatchObject([
    { offset: '2', duplicate: false },
  ]);
});
