// Guards `sluice doctor`: a healthy database has nothing to mend; each thing that is wrong is found, said with what
// mends it, and fails the command only if it must be mended. The parts are tested directly where a process of its own
// could not be brought into the state in time.
import type { Client } from 'pg';
import { connect } from 'sluice';
import { createTestDatabase } from 'sluice/testing';
import { describe, expect, test } from 'vitest';
import { examineTransactions } from '../../src/cli/doctor/activity.ts';
import { examineOutbox, examineRelay, examineUndeliverable } from '../../src/cli/doctor/backlog.ts';
import type { Finding } from '../../src/cli/doctor/finding.ts';
import {
  examineListening,
  hearsNotifications,
  isPooled,
  judgeListening,
} from '../../src/cli/doctor/notifications.ts';
import { examinePrivileges } from '../../src/cli/doctor/privileges.ts';
import { openProbe } from '../../src/cli/doctor/probe.ts';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';
import { PgBouncer } from '../support/pgbouncer.ts';
import { useCli, type Finished } from '../support/process.ts';

const db = useDatabase();
const cli = useCli();

const doctor = (url: string, ...args: string[]): Promise<Finished> =>
  cli.run(['doctor', ...args], { env: { DATABASE_URL: url } });
const findings = async (
  url: string,
  ...args: string[]
): Promise<{ code: number | null; found: Finding[]; stderr: string }> => {
  const { code, stdout, stderr } = await doctor(url, '--json', ...args);
  return { code, found: JSON.parse(stdout) as Finding[], stderr };
};
const withProbe = async <T>(work: (client: Client) => Promise<T>, url = db.connectionString): Promise<T> => {
  const client = await openProbe(url);
  try {
    return await work(client);
  } finally {
    await client.end();
  }
};

describe('a healthy database', () => {
  test('has nothing to mend', async () => {
    await using sluice = await connect({ connectionString: db.connectionString });
    await until(() => withProbe(async (client) => (await examineRelay(client, 'sluice')).level === 'ok'));
    const { code, found, stderr } = await findings(db.connectionString);
    expect([code, stderr]).toEqual([0, '']);
    // The test server forgets on purpose.
    const durability = { name: 'durability', level: 'warn', message: expect.stringMatching(/^fsync is off/) };
    expect(found.filter(({ level }) => level !== 'ok')).toEqual([
      { ...durability, remedy: expect.any(String) },
    ]);
    expect(found.map(({ name }) => name)).toEqual([
      'connection',
      'listen',
      'server',
      'encoding',
      'primary',
      'durability',
      'clock',
      'idle_session_timeout',
      'notification queue',
      'transactions',
      'privileges',
      'schema',
      'outbox',
      'relay',
      'undeliverable',
    ]);
    expect((await sluice.health()).ok).toBe(true);
  });

  test('is told as text too, a line each, with remedies below', async () => {
    const { code, stdout, stderr } = await doctor(db.connectionString);
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/^ok {4}connection {12}direct\nok {4}listen {16}notifications arrive\n/);
    expect(stdout).toMatch(/\nwarn {2}durability {12}fsync is off[^\n]+\n {28}-> set fsync to on\n/);
  });
});

describe('a broken database', () => {
  test('cannot be reached', async () => {
    const url = new URL(db.connectionString);
    url.password = 'wrong';
    const { code, found, stderr } = await findings(url.href);
    expect(code).toBe(1);
    expect(found).toEqual([
      {
        name: 'connection',
        level: 'bad',
        message: expect.stringMatching(/password authentication failed/),
        remedy: expect.stringMatching(/DATABASE_URL/),
      },
    ]);
    expect(JSON.parse(stderr)).toEqual({
      error: { code: 'unhealthy', message: 'not as it must be: connection' },
    });
  });

  test('has no schema', async () => {
    const { code, found } = await findings(db.connectionString, '--schema', 'missing');
    expect(code).toBe(1);
    expect(found.at(-1)).toEqual({
      name: 'schema',
      level: 'bad',
      message: 'schema "missing" is not installed in this database',
      remedy: 'run `npx sluice migrate --schema "missing"`',
    });
  });

  test('has another encoding', async () => {
    const url = new URL(db.connectionString);
    const latin = `${url.pathname.slice(1)}_latin`;
    await db.query(`create database "${latin}" encoding 'LATIN1' locale 'C' template template0`);
    url.pathname = `/${latin}`;
    try {
      const { code, found } = await findings(url.href);
      expect(code).toBe(1);
      const wrong = found.filter(({ level }) => level === 'bad').map(({ name }) => name);
      expect(wrong).toEqual(['encoding', 'schema']);
    } finally {
      await db.query(`drop database "${latin}" with (force)`);
    }
  });

  test('grants its user nothing', async () => {
    const role = `doctor_${new URL(db.connectionString).pathname.slice(1)}`;
    await db.query(`create role "${role}" login password 'secret'`);
    const url = new URL(db.connectionString);
    [url.username, url.password] = [role, 'secret'];
    const rights = async (): Promise<Finding | undefined> =>
      (await withProbe((client) => examinePrivileges(client, 'sluice'), url.href))[0];
    try {
      const installing = (): Promise<Finding[]> =>
        withProbe((client) => examinePrivileges(client, 'missing'), url.href);
      const database = url.pathname.slice(1);
      expect(await installing()).toEqual([
        {
          name: 'privileges',
          level: 'warn',
          message: `user "${role}" may not create schemas in database "${database}", as the first migration does`,
          remedy: `migrate as a user who may, or as the owner of the database: grant create on database "${database}" to "${role}"`,
        },
      ]);
      await db.query(`grant create on database "${database}" to "${role}"`);
      expect(await installing()).toEqual([]);
      expect(await rights()).toMatchObject({
        level: 'bad',
        message: expect.stringMatching(/may not use schema/),
      });
      const { code, found } = await findings(url.href);
      expect(code).toBe(1);
      expect(found.filter(({ level }) => level === 'bad')).toEqual([
        {
          name: 'privileges',
          level: 'bad',
          message: `user "${role}" may not use schema "sluice"`,
          remedy: expect.stringContaining(`select "sluice".grant_right('${role}', 'read'), or 'publish'`),
        },
        {
          name: 'schema',
          level: 'bad',
          message: 'permission denied for schema sluice',
          remedy: 'grant what is missing: see privileges',
        },
      ]);
      await db.query(`grant usage on schema sluice to "${role}"`);
      expect(await rights()).toMatchObject({
        level: 'bad',
        message: expect.stringMatching(/was granted no right whole/),
      });
      await db.query(`select sluice.grant_right($1, 'publish')`, [role]);
      expect(await rights()).toMatchObject({
        level: 'warn',
        message: expect.stringMatching(/may publish, and no more/),
        remedy: expect.stringContaining(`grant_right('${role}', 'relay')`),
      });
      await db.query(`revoke execute on function sluice.publish_many from "${role}"`);
      expect(await rights()).toMatchObject({
        level: 'bad',
        message: expect.stringMatching(/no right whole/),
      });
      await db.query(`select sluice.grant_right($1, 'relay')`, [role]);
      expect(await rights()).toMatchObject({
        level: 'ok',
        message: expect.stringMatching(/may read, consume, publish, append, manage, relay$/),
      });
    } finally {
      await db.query(`drop owned by "${role}"; drop role "${role}"`);
    }
  });
});

describe('whether published events move', () => {
  test('a backlog: fine when fresh, bad when old', async () => {
    await using database = await createTestDatabase({ template: process.env['SLUICE_TEST_TEMPLATE'] });
    await withProbe(async (client) => {
      const outbox = (): Promise<Finding> => examineOutbox(client, 'sluice');
      const age = (by: string): Promise<unknown> =>
        client.query(`update sluice.outbox set published_at = clock_timestamp() - $1::interval`, [by]);
      expect(await outbox()).toEqual({ name: 'outbox', level: 'ok', message: 'empty' });
      await client.query(`select sluice.publish('s', '1')`);
      expect(await outbox()).toMatchObject({ level: 'ok' });
      await age('30 seconds');
      expect(await outbox()).toMatchObject({
        level: 'warn',
        message: expect.stringMatching(/oldest for 30 s$/),
      });
      await age('3 hours');
      expect(await outbox()).toMatchObject({
        level: 'bad',
        message: expect.stringMatching(/oldest for 3 h$/),
      });
    }, database.connectionString);
    expect((await findings(database.connectionString)).code).toBe(1);
  });

  test('who has the relay role, in each schema apart', async () => {
    const role = (schema: string): Promise<Finding> => withProbe((client) => examineRelay(client, schema));
    const other = 'Other "schema"';
    await cli.run(['migrate', '--schema', other], { env: { DATABASE_URL: db.connectionString } });
    expect((await role(other)).level).toBe('warn');
    await using sluice = await connect({ connectionString: db.connectionString, schema: other });
    await until(async () => (await role(other)).level === 'ok');
    expect((await role(other)).message).toMatch(/^held by server process \d+ \(.+, connected for \d+ s\)$/);
    expect((await role('sluice')).level).toBe('warn');
    expect((await sluice.health()).ok).toBe(true);
  });

  test('what could not be delivered', async () => {
    await db.query(`select sluice.publish('gone', '1')`);
    await db.query(`select sluice.create_stream('gone'), sluice.delete_stream('gone')`);
    await db.query(
      `insert into sluice.undeliverable (reason, published_at, stream, data) values ('stream_deleted', now(), 'gone', '1')`,
    );
    const found = await withProbe((client) => examineUndeliverable(client, 'sluice'));
    expect(found).toMatchObject({
      level: 'warn',
      message: expect.stringMatching(/^[12] published events/),
      remedy: expect.stringMatching(/`sluice undeliverable ls`.*`sluice undeliverable drop`/),
    });
    await using sluice = await connect({ connectionString: db.connectionString, relay: false });
    await sluice.dropUndeliverable();
    expect(await withProbe((client) => examineUndeliverable(client, 'sluice'))).toMatchObject({
      level: 'ok',
    });
  });
});

describe('notifications', () => {
  test('are heard over a direct connection, which is told from a pooled one', async () => {
    await withProbe((listener) =>
      withProbe(async (notifier) => {
        expect(await isPooled(listener)).toBe(false);
        expect(await examineListening(listener, notifier)).toMatchObject([{ level: 'ok' }, { level: 'ok' }]);
      }),
    );
  });

  test('are missed by a session that no longer listens, as behind a pooler', async () => {
    await withProbe((listener) =>
      withProbe(async (notifier) => {
        // What a transaction pooler does to LISTEN: it succeeds, on a session that is somebody else's by then.
        const deaf = {
          on: listener.on.bind(listener),
          off: listener.off.bind(listener),
          query: async (text: string) => [await listener.query(text), await listener.query('unlisten *')],
        } as unknown as Client;
        expect(await hearsNotifications(deaf, notifier, 50)).toBe(false);
        expect(await hearsNotifications(listener, notifier)).toBe(true);
      }),
    );
  });

  test('through a real pooler: in session mode they arrive, in transaction mode not, and the remedy is named', async (context) => {
    const { connectionString } = db;
    const pooled = {
      name: 'connection',
      level: 'ok',
      message: 'through a pooler (the server process is another one than was announced)',
    };
    {
      await using pooler = await PgBouncer.start(context, { connectionString, mode: 'session' });
      const { found } = await findings(pooler.connectionString);
      const listen = { name: 'listen', level: 'ok', message: expect.stringMatching(/session mode$/) };
      expect(found.slice(0, 2)).toEqual([pooled, listen]);
    }
    await using pooler = await PgBouncer.start(context, { connectionString, mode: 'transaction' });
    const { code, found } = await findings(pooler.connectionString);
    expect(code).toBe(1);
    expect(found.slice(0, 2)).toEqual([
      pooled,
      {
        name: 'listen',
        level: 'bad',
        message: expect.stringMatching(/a pooler in transaction mode stands in between$/),
        remedy: 'give connect() a direct address of the server as listenConnectionString',
      },
    ]);
  });

  test.each([
    [false, true, 'ok', /^notifications arrive$/],
    [true, true, 'ok', /session mode/],
    [true, false, 'bad', /transaction mode/],
    [false, false, 'bad', /^no notification arrived within 2 s$/],
  ] as const)('pooled %s, heard %s: %s', (pooled, heard, level, message) => {
    expect(judgeListening(pooled, heard)).toMatchObject({ level, message: expect.stringMatching(message) });
  });
});

test('transactions that stay open are named', async () => {
  const open = await db.pool.connect();
  await open.query('begin isolation level repeatable read; select 1');
  try {
    const found = await withProbe((client) => examineTransactions(client, 0));
    expect(found).toMatchObject({
      level: 'warn',
      message: expect.stringMatching(/^open: server process \d+ \(test file, idle in transaction\) for 0 s$/),
    });
  } finally {
    await open.query('rollback');
    open.release();
  }
});
