// Guards how commands fail: one line on standard error that says what and what to do, as JSON with --json, nothing on
// standard output, and exit code 2 where the command line is wrong, 1 for everything else.
import { createServer } from 'node:net';
import { once } from 'node:events';
import { Client } from 'pg';
import { connect } from 'sluice';
import { createTestDatabase } from 'sluice/testing';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { useCli } from '../support/process.ts';

const db = useDatabase();
const cli = useCli();

let folder: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'sluice-cli-'));
  await using client = await connect({ connectionString: db.connectionString });
  await client.stream('closed').append(1);
  await db.query(`select sluice.close_stream('closed')`);
  await client.stream('open').append(1);
});
afterAll(() => rmSync(folder, { recursive: true }));

const headOf = async (name: string): Promise<unknown> =>
  (
    await db.query(
      `select count(*) from sluice.events e join sluice.streams s on s.id = e.stream_id where s.name = $1`,
      [name],
    )
  ).rows[0];

interface Expected {
  readonly exit: 1 | 2;
  readonly code: string;
  readonly says: RegExp;
}

/** Runs the command both ways and compares what it tells. */
const fails = async (
  args: readonly string[],
  { exit, code, says }: Expected,
  url: string = db.connectionString,
): Promise<void> => {
  const options = { cwd: folder, env: { DATABASE_URL: url } };
  const [text, json] = await Promise.all([cli.run(args, options), cli.run([...args, '--json'], options)]);
  expect(text).toMatchObject({ code: exit, stdout: '' });
  expect(text.stderr).toMatch(/^error: [^\n]+\n$/);
  expect(text.stderr).toMatch(says);
  expect(json).toMatchObject({ code: exit, stdout: '' });
  const { error } = JSON.parse(json.stderr) as { error: { code: string; message: string } };
  expect(error).toMatchObject({ code, message: expect.stringMatching(says) });
};

const changed = (change: (url: URL) => void): string => {
  const url = new URL(db.connectionString);
  change(url);
  return url.href;
};

describe('the database', () => {
  test('is not named', async () => {
    const says = /DATABASE_URL.*--database-url.*npx sluice dev/;
    await fails(['streams'], { exit: 1, code: 'no_database', says }, '');
    await fails(['doctor'], { exit: 1, code: 'no_database', says }, '');
  });

  test('is named by something that is no address', async () => {
    await fails(['streams'], { exit: 2, code: 'usage', says: /DATABASE_URL .*postgres:\/\// }, 'localhost');
    await fails(
      ['streams'],
      { exit: 2, code: 'usage', says: /DATABASE_URL .*%23 for #/ },
      'postgres://a:b#c@d',
    );
    await fails(['streams', '--database-url', 'mysql://x'], {
      exit: 2,
      code: 'usage',
      says: /--database-url/,
    });
  });

  test('of dev has no place for its data', async () => {
    const note = join(folder, '.sluice');
    writeFileSync(note, 'not a folder');
    const { code, stderr } = await cli.run(['dev'], { cwd: folder, env: { DATABASE_URL: '', PORT: '0' } });
    rmSync(note);
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(
        /^error: the data cannot be kept in \S+\.sluice \(.*\); start in a folder .* DATABASE_URL\n$/,
      ),
    ]);
  });

  test('refuses the password', async () => {
    const url = changed((each) => (each.password = 'wrong'));
    await fails(['streams'], { exit: 1, code: 'permission_denied', says: /password.*check the user/ }, url);
  });

  test('does not exist', async () => {
    const url = changed((each) => (each.pathname = '/nowhere'));
    await fails(
      ['streams'],
      { exit: 1, code: 'connection_lost', says: /"nowhere" does not exist.*DATABASE_URL/ },
      url,
    );
  });

  test('has no TLS, and is asked for it', async () => {
    const says = /failed: The server does not support SSL connections; .*DATABASE_URL is right/;
    const url = changed((each) => each.searchParams.set('sslmode', 'verify-full'));
    await fails(['streams'], { exit: 1, code: 'connection_lost', says }, url);
    // The driver has more to say of this one, on nine lines.
    const advised = changed((each) => each.searchParams.set('sslmode', 'require'));
    for (const json of [[], ['--json']]) {
      const { stderr } = await cli.run(['streams', ...json], { env: { DATABASE_URL: advised } });
      const [warning, error, ...rest] = stderr.trimEnd().split('\n');
      expect(rest).toEqual([]);
      expect(warning).toMatch(
        json.length > 0
          ? /^\{"warning":\{"message":"SECURITY WARNING: .+"\}\}$/
          : /^warning: SECURITY WARNING: /,
      );
      expect(error).toMatch(/does not support SSL/);
    }
  });

  test('is out of reach', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    server.close();
    const url = changed((each) => (each.port = String(port)));
    const says = new RegExp(`ECONNREFUSED 127\\.0\\.0\\.1:${port}.*DATABASE_URL`);
    await fails(['append', 'open', '1'], { exit: 1, code: 'connection_lost', says }, url);
    await fails(['migrate'], { exit: 1, code: 'connection_lost', says }, url);
    await fails(['migrate', '--status'], { exit: 1, code: 'connection_lost', says }, url);
  });
});

describe('the schema', () => {
  test('is not installed', async () => {
    const says = /not installed.*npx sluice migrate --schema "missing"/;
    await fails(['info', 'open', '--schema', 'missing'], { exit: 1, code: 'schema_mismatch', says });
    await fails(['tail', 'open', '--schema', 'missing'], { exit: 1, code: 'schema_mismatch', says });
  });

  test('is from the future', async () => {
    await using future = await createTestDatabase({ template: process.env['SLUICE_TEST_TEMPLATE'] });
    const client = new Client({ connectionString: future.connectionString });
    await client.connect();
    await client.query(
      `insert into sluice.migrations (version, name, compatible_from) values (999, 'later', 999)`,
    );
    await client.end();
    const expected: Expected = {
      exit: 1,
      code: 'schema_mismatch',
      says: /version 999.*npm install sluice@latest/,
    };
    await fails(['append', 'open', '1'], expected, future.connectionString);
  });

  test('has a name that PostgreSQL would refuse', async () => {
    const expected: Expected = { exit: 2, code: 'usage', says: /"pg_mine"/ };
    await fails(['streams', '--schema', 'pg_mine'], expected);
    await fails(['migrate', '--schema', 'pg_mine'], expected);
    await fails(['migrate', '--print', '--schema', 'pg_mine'], expected);
  });
});

describe('the stream', () => {
  test.each([['info'], ['tail'], ['tail', '--follow'], ['delete']])(
    'does not exist: %s %s',
    async (command, ...rest) => {
      const expected: Expected = { exit: 1, code: 'stream_not_found', says: /"nowhere" does not exist/ };
      await fails([command, 'nowhere', ...rest], expected);
    },
  );

  test('exists already', () =>
    fails(['create', 'open'], {
      exit: 1,
      code: 'stream_exists',
      says: /'open' exists; use it as it is, or .*sluice configure/,
    }));

  test.each([['append'], ['publish']])('is closed: %s', (command) =>
    fails([command, 'closed', '1'], { exit: 1, code: 'stream_closed', says: /closed/ }),
  );

  test.each([['append', '1'], ['publish', '1'], ['create'], ['info'], ['tail']])(
    'has a name that none can have: %s',
    (command, ...rest) =>
      fails([command, 'a\nb', ...rest], { exit: 2, code: 'name_invalid', says: /control character/ }),
  );
});

describe('the event', () => {
  test.each([['append'], ['publish']])('is not JSON: %s', (command) =>
    fails([command, 'open', 'hello'], {
      exit: 2,
      code: 'payload_invalid',
      says: /"hello" is not JSON.*'"text"'/,
    }),
  );

  test.each([['append'], ['publish']])('has a number that would change: %s', async (command) => {
    const before = await headOf('open');
    const says =
      /has the number 12345678901234567890, which would be kept as 12345678901234567000; give it as a string/;
    await fails([command, 'open', '{"id":12345678901234567890}'], { exit: 2, code: 'payload_invalid', says });
    const { code, stderr } = await cli.run([command, 'open', '-'], {
      env: { DATABASE_URL: db.connectionString },
      input: '{"n":1e400}\n',
    });
    expect([code, stderr]).toEqual([1, expect.stringMatching(/^error: line 1 has the number 1e400, .+\n$/)]);
    expect(await headOf('open')).toEqual(before);
  });

  test('is too large', async () => {
    const { code, stderr } = await cli.run(['append', 'open', '-'], {
      env: { DATABASE_URL: db.connectionString },
      input: JSON.stringify('x'.repeat(2 ** 20)),
    });
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /^error: line 1 was refused: the event has 1048578 bytes of JSON; the limit is 1048576: .+\n$/,
    );
  });

  test('has a type that is reserved', () =>
    fails(['append', 'open', '1', '--type', 'sluice:x'], {
      exit: 2,
      code: 'name_invalid',
      says: /reserved/,
    }));
});

describe('the position', () => {
  test('is of no stream, or of another one', async () => {
    const says = /stream .missing. does not exist; `sluice streams` lists those that do/;
    const expected: Expected = { exit: 1, code: 'stream_not_found', says };
    for (const args of [
      ['info'],
      ['delete'],
      ['trim', '--max-count', '1'],
      ['configure', '--max-count', '1'],
    ]) {
      await fails([args[0]!, 'missing', ...args.slice(1)], expected);
    }
    await fails(['tail', 'missing'], expected);
    await using client = await connect({ connectionString: db.connectionString });
    await client.stream('other').append(1);
    const { cursor } = await client.stream('other').read();
    const another = /the cursor is of another stream, or of one of that name which was deleted.*--after \S+/;
    await fails(['tail', 'open', '--after', cursor], { exit: 1, code: 'cursor_reset', says: another });
  });

  test('is none', async () => {
    for (const follow of [[], ['--follow']]) {
      const expected: Expected = {
        exit: 2,
        code: 'cursor_invalid',
        says: /"Nonsense!" is not a position; give an offset as a bigint or in digits, a cursor/,
      };
      await fails(['tail', 'open', '--after', 'Nonsense!', ...follow], expected);
    }
  });

  test('I8: is of another history: says the cursor to go on from, which works', async () => {
    const env = { DATABASE_URL: db.connectionString };
    await cli.run(['append', 'again', '1'], { env });
    const { cursor } = JSON.parse((await cli.run(['append', 'again', '2', '--json'], { env })).stdout) as {
      cursor: string;
    };
    await cli.run(['delete', 'again'], { env });
    await cli.run(['append', 'again', '3'], { env });
    for (const follow of [[], ['--follow']]) {
      const expected: Expected = {
        exit: 1,
        code: 'cursor_reset',
        says: /of one of that name which was deleted.*--after \S+/,
      };
      await fails(['tail', 'again', '--after', cursor, ...follow], expected);
    }
    const { stderr } = await cli.run(['tail', 'again', '--after', cursor, '--json'], { env });
    const { error } = JSON.parse(stderr) as { error: { cursor: string; message: string } };
    expect(error.message).toContain(`--after ${error.cursor}`);
    expect((await cli.run(['tail', 'again', '--after', error.cursor], { env })).stdout).toMatch(
      /^1\t\S+\t-\t3\n$/,
    );
  });

  test('I8: has been trimmed away', async () => {
    await using client = await connect({ connectionString: db.connectionString });
    await client.stream('trimmed').appendMany([{ data: 1 }, { data: 2 }, { data: 3 }]);
    // As retention will do it.
    await db.query(
      `with gone as (delete from sluice.events e using sluice.streams s
         where s.name = 'trimmed' and e.stream_id = s.id and e."offset" <= 2 returning e."offset", e.tag)
       update sluice.streams s set trimmed_to = 2, trimmed_tag = (select tag from gone where "offset" = 2)
       where s.name = 'trimmed'`,
    );
    await fails(['tail', 'trimmed', '--after', '1'], {
      exit: 1,
      code: 'cursor_expired',
      says: /oldest, 3: --after \S+/,
    });
  });
});

describe('the command line', () => {
  test.each<[string, string[], RegExp]>([
    ['an unknown command', ['frobnicate'], /unknown command 'frobnicate'/],
    ['a command that is nearly one', ['apend'], /unknown command 'apend' \(Did you mean append\?\)/],
    [
      'an unknown option',
      ['tail', 'open', '--folow'],
      /unknown option '--folow' \(Did you mean --follow\?\)/,
    ],
    ['a missing argument', ['info'], /missing required argument 'stream'/],
    ['too many arguments', ['info', 'a', 'b'], /too many arguments/],
    ['a missing value', ['tail', 'open', '--after'], /argument missing/],
    ['two questions at once', ['migrate', '--print', '--status'], /--print and --status/],
  ])('has %s', (_, args, says) => fails(args, { exit: 2, code: 'usage', says }));

  test('has no command: help, on standard error', async () => {
    const { code, stdout, stderr } = await cli.run([]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(/^Usage: sluice/);
  });

  test('asks for help or for the version', async () => {
    const { code, stdout } = await cli.run(['help', 'tail']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^Usage: sluice tail[^]*--after[^]*--database-url/);
    expect((await cli.run(['tail', '--help'])).stdout).toBe(stdout);
    expect(await cli.run(['--version'])).toEqual({
      code: 0,
      stdout: expect.stringMatching(/^\d+\.\d+\.\d+\S*\n$/),
      stderr: '',
    });
  });
});
