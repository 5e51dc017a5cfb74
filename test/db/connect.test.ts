// Guards the first thing a user meets: what connect and migrate refuse, each with its own code and what to do about it,
// never with the password in it, and with nothing left behind in the process.
import { inspect } from 'node:util';
import { Pool } from 'pg';
import { connect, createNotifyBus, migrate, SluiceError, type ConnectOptions, type Queryable } from 'sluice';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { coreOf } from '../../src/sluice/connect.ts';
import { SCHEMA_VERSION } from '../../src/db/migrate.ts';
import { deferred } from '../../src/util/deferred.ts';
import { checkServer } from '../../src/db/schema-version.ts';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { logOf, passAll } from '../support/log-sql.ts';
import { createProxy } from '../support/proxy.ts';

const db = useDatabase();
const empty = useDatabase({ migrated: false });

/** What connecting and migrating fail with, which must be the same. */
const refusals = async (options: ConnectOptions): Promise<SluiceError[]> => {
  const errors: unknown[] = [];
  for (const attempt of [connect, migrate])
    await attempt(options).catch((error: unknown) => errors.push(error));
  for (const error of errors) expect(error).toBeInstanceOf(SluiceError);
  expect(errors).toHaveLength(2);
  return errors as SluiceError[];
};
const refusal = async (options: ConnectOptions): Promise<SluiceError> => {
  const error: unknown = await connect(options).then(
    async (sluice) => sluice.close(),
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(SluiceError);
  return error as SluiceError;
};
const urlWith = (change: (url: URL) => void, connectionString = db.connectionString): string => {
  const url = new URL(connectionString);
  change(url);
  return url.href;
};

describe('the schema', () => {
  test('not installed: the error names the command that installs it', async () => {
    const error = await refusal({ connectionString: empty.connectionString });
    expect(error.code).toBe('schema_mismatch');
    expect(error.message).toMatch(/schema "sluice" is not installed .*npx sluice migrate`/);
    const named = await refusal({ connectionString: db.connectionString, schema: 'my "own"' });
    expect(named.message).toContain('npx sluice migrate --schema "my \\"own\\""');
  });

  test('older than this package: the error names both versions and the command', async () => {
    await migrate({ connectionString: empty.connectionString, schema: 'older' });
    await empty.query('delete from older.migrations where version > 1');
    await empty.query('update older.migrations set version = 0');
    const error = await refusal({ connectionString: empty.connectionString, schema: 'older' });
    expect(error.code).toBe('schema_mismatch');
    expect(error.message).toMatch(
      new RegExp(`version 0, this package needs ${SCHEMA_VERSION}; .*npx sluice migrate`),
    );
  });

  test('newer and compatible: everything works', async () => {
    await migrate({ connectionString: empty.connectionString, schema: 'newer' });
    await empty.query(`insert into newer.migrations values (99, '0099_future', $1)`, [SCHEMA_VERSION]);
    for (const mode of ['check', 'apply'] as const) {
      await using sluice = await connect({
        connectionString: empty.connectionString,
        schema: 'newer',
        migrate: mode,
      });
      await sluice.stream('orders').publish(1);
      await sluice.stream('orders').append(2);
    }
  });

  test('newer and incompatible: the error names the way out, also with migrate: apply', async () => {
    await migrate({ connectionString: empty.connectionString, schema: 'distant' });
    await empty.query(`insert into distant.migrations values (99, '0099_future', 98)`);
    for (const mode of ['check', 'apply'] as const) {
      const error = await refusal({
        connectionString: empty.connectionString,
        schema: 'distant',
        migrate: mode,
      });
      expect(error.code).toBe('schema_mismatch');
      expect(error.message).toMatch(/version 99.*too old.*npm install sluice@latest/);
    }
  });

  test('migrate: apply installs it', async () => {
    await using sluice = await connect({
      connectionString: empty.connectionString,
      schema: 'applied',
      migrate: 'apply',
    });
    expect((await sluice.stream('orders').append(1)).offset).toBe(1n);
  });
});

describe('the server', () => {
  const server = (row: object): Queryable => ({
    query: async () => ({ rows: [{ major: 17, version: '17.2', encoding: 'UTF8', standby: false, ...row }] }),
  });

  test('one too old, of another encoding or on standby is refused, naming what is needed', async () => {
    await checkServer(server({}));
    const code = 'unsupported_server';
    await expect(checkServer(server({ major: 13, version: '13.16' }))).rejects.toMatchObject({
      code,
      message: 'this is PostgreSQL 13.16; Sluice needs PostgreSQL 14 or newer',
    });
    await expect(checkServer(server({ encoding: 'LATIN1' }))).rejects.toMatchObject({ code });
    await expect(checkServer(server({ standby: true }))).rejects.toMatchObject({ code });
  });

  test('sessions that make text of null are refused: what has no key would get one', async () => {
    const name = new URL(db.connectionString).pathname.slice(1);
    await db.query(`alter database ${name} set array_nulls = off`);
    try {
      for (const error of await refusals({ connectionString: db.connectionString })) {
        expect(error.code).toBe('unsupported_server');
        expect(error.message).toMatch(/^array_nulls is off .*; set it to on$/);
      }
    } finally {
      await db.query(`alter database ${name} reset array_nulls`);
    }
  });

  test('a database that cannot hold every text is refused', async () => {
    const name = `${new URL(db.connectionString).pathname.slice(1)}_ascii`;
    await db.query(`create database ${name} encoding 'SQL_ASCII' template template0 locale 'C'`);
    try {
      const connectionString = urlWith((url) => (url.pathname = `/${name}`));
      for (const error of await refusals({ connectionString })) {
        expect(error.code).toBe('unsupported_server');
        expect(error.message).toMatch(/encoded in SQL_ASCII; .*encoding 'UTF8'/);
      }
    } finally {
      await db.query(`drop database ${name} with (force)`);
    }
  });
});

describe('reaching it', () => {
  /** Says what it must, keeps the password to itself, and leaves nothing running. */
  const secret = 'pass-w0rd-nobody-may-see';
  const check = async (
    connectionString: string,
    expected: { code: string; message: RegExp },
  ): Promise<void> => {
    for (const error of await refusals({ connectionString })) {
      expect(error.code).toBe(expected.code);
      expect(error.message).toMatch(expected.message);
      expect(inspect(error, { depth: 10 })).not.toContain(secret);
    }
  };

  test('a wrong password', async () => {
    const connectionString = urlWith((url) => (url.password = secret));
    await check(connectionString, {
      code: 'permission_denied',
      message: /password authentication failed for user/,
    });
  });

  test('nobody listens there', async () => {
    const connectionString = `postgres://someone:${secret}@127.0.0.1:1/orders`;
    await check(connectionString, { code: 'connection_lost', message: /ECONNREFUSED 127\.0\.0\.1:1/ });
  });

  test('no such database', async () => {
    const connectionString = urlWith((url) => (url.pathname = '/no-such-database'));
    await check(connectionString, {
      code: 'connection_lost',
      message: /database "no-such-database" does not exist/,
    });
  });

  test('a URL that is none', async () => {
    for (const connectionString of [
      `postgres://someone:${secret}@host:port/orders`,
      `postgres://a:${secret}@[::1/x`,
    ]) {
      const error: unknown = await connect({ connectionString }).catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(Error);
      expect(inspect(error, { depth: 10 })).not.toContain(secret);
    }
  });

  test('no database named at all', async () => {
    const given = process.env['DATABASE_URL'];
    delete process.env['DATABASE_URL'];
    try {
      await expect(connect()).rejects.toThrow(
        /no database is named: give connectionString, or set DATABASE_URL/,
      );
      const pool = new Pool({ connectionString: db.connectionString });
      await expect(connect({ pool })).rejects.toThrow(/listening needs a connection of its own/);
      await pool.end();
    } finally {
      if (given !== undefined) process.env['DATABASE_URL'] = given;
    }
  });

  test('an abort while it connects, or before', async () => {
    const reason = new Error('enough');
    await expect(
      connect({ connectionString: db.connectionString, signal: AbortSignal.abort(reason) }),
    ).rejects.toBe(reason);
    const controller = new AbortController();
    const connecting = connect({ connectionString: db.connectionString, signal: controller.signal });
    controller.abort(reason);
    await expect(connecting).rejects.toBe(reason);
  });
});

describe('roles', () => {
  const role = (): string => `app_${new URL(db.connectionString).pathname.slice(1)}`;
  const asRole = (): string =>
    urlWith((url) => {
      url.username = role();
      url.password = 'its own';
    });

  beforeAll(async () => {
    await db.query(`create role ${role()} login password 'its own'`);
  });
  afterAll(async () => {
    await db.query(`drop owned by ${role()}; drop role ${role()}`);
  });

  test('one that may not create the schema, or not use it, is told what it lacks', async () => {
    await expect(migrate({ connectionString: asRole(), schema: 'mine' })).rejects.toMatchObject({
      code: 'permission_denied',
      message: expect.stringMatching(/^permission denied for database .*what is granted/),
    });
    expect((await refusal({ connectionString: asRole() })).message).toMatch(
      /^permission denied for schema sluice/,
    );
    await db.query(`grant usage on schema sluice to ${role()}`);
    const error = await refusal({ connectionString: asRole() });
    expect(error).toMatchObject({ code: 'permission_denied', retryable: false });
    expect(error.message).toMatch(/^permission denied for table migrations/);
  });

  test('one that may call publish can publish, and nothing else', async () => {
    await db.query(
      `grant usage on schema sluice to ${role()};
       grant execute on function sluice.publish to ${role()}`,
    );
    await using client = await openClient(asRole());
    await client.query('begin');
    await client.query(`select sluice.publish('roles', '1')`);
    await client.query('commit');
    await expect(client.query(`select sluice.append('roles', '2')`)).rejects.toThrow(
      /permission denied for function append/,
    );
    await expect(client.query('select from sluice.events')).rejects.toThrow(
      /permission denied for table events/,
    );
    await expect(client.query('select from sluice.outbox')).rejects.toThrow(
      /permission denied for table outbox/,
    );
    await passAll(db);
    expect(await logOf(db, 'roles')).toEqual(['1']);
  });
});

test('options that cannot be used are programmer errors', async () => {
  const { connectionString } = db;
  const bad = (options: object): Promise<unknown> => connect({ connectionString, ...options });
  await expect(bad({ migrate: 'yes' })).rejects.toThrow(TypeError);
  await expect(bad({ fallbackPollMs: 0 })).rejects.toThrow(RangeError);
  await expect(bad({ windowEvents: Number.NaN })).rejects.toThrow(
    /windowEvents is NaN; give a number of at least 1/,
  );
  await expect(bad({ appendTimeoutMs: '5s' })).rejects.toThrow(
    /appendTimeoutMs is "5s"; give a number from 1 to/,
  );
  await expect(bad({ fallbackPollMs: Infinity })).rejects.toThrow(
    /fallbackPollMs is Infinity; .* from 10 to/,
  );
  await expect(bad({ schema: 5 })).rejects.toThrow(/schema must be a string, not number/);
  await expect(connect(connectionString as never)).rejects.toThrow(
    /options must be an object, .*{ connectionString }/,
  );
  await expect(migrate(connectionString as never)).rejects.toThrow(/options must be an object/);
});

test('an address that is none, or a pool that is none, is told at once, without the password', async () => {
  const { connectionString } = db;
  const addresses = ['', 'orders', 'mysql://a:secret@127.0.0.1/orders', 'a:secret@127.0.0.1/orders', 5];
  for (const address of addresses as string[]) {
    const options: ConnectOptions[] = [
      { connectionString: address },
      { connectionString, listenConnectionString: address },
      { connectionString, readConnectionString: address },
    ];
    for (const each of options) {
      const error: unknown = await connect(each).catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(TypeError);
      expect(inspect(error)).toMatch(/onnectionString is no address of a database; give postgres:\/\//);
      expect(inspect(error)).not.toContain('secret');
    }
    expect(() => createNotifyBus({ connectionString: address })).toThrow(/is no address of a database/);
  }
  await using client = await openClient(connectionString);
  for (const pool of [{}, connectionString, client, { query: async () => ({ rows: [] }) }] as never[]) {
    await expect(connect({ connectionString, pool })).rejects.toThrow(/pool must be a pool of connections/);
    expect(() => createNotifyBus({ connectionString, pool })).toThrow(/pool must be a pool of connections/);
  }
});

test('the address to listen to does for everything', async () => {
  await using sluice = await connect({ listenConnectionString: db.connectionString });
  expect(await sluice.health()).toMatchObject({ ok: true });
});

test('health() answers while the database does not, and asks it once for all who wait', async () => {
  const through = new URL(db.connectionString);
  using proxy = await createProxy({ targetPort: Number(through.port) });
  through.host = `${proxy.host}:${proxy.port}`;
  const sluice = await connect({ connectionString: through.href, relay: false, fallbackPollMs: 600_000 });
  proxy.pause();
  const before = proxy.connections;
  const many = await Promise.all(Array.from({ length: 20 }, () => sluice.health()));
  expect(new Set(many.map(({ ok, database }) => ok || database))).toEqual(new Set([false]));
  expect(proxy.connections).toBeLessThanOrEqual(before + 1);
  // What did not answer is given up: it may never, and another connection would.
  const pool = coreOf(sluice).database.pool as Pool;
  await until(() => pool.totalCount === 0);
  proxy.resume();
  await until(async () => (await sluice.health()).ok);
  await sluice.close();
});

describe('a logger', () => {
  test('that is none is refused at once, not when it is needed', async () => {
    const { connectionString } = db;
    for (const logger of [{}, { warn: true }, () => {}] as never[]) {
      await expect(connect({ connectionString, logger })).rejects.toThrow(/the logger is none; give one/);
      expect(() => createNotifyBus({ connectionString, logger })).toThrow(/the logger is none; give one/);
    }
  });

  test('may have some levels and not others', async () => {
    const warned = deferred<string>();
    const logger = { warn: (_: object, message: string) => warned.resolve(message) } as never;
    const bus = createNotifyBus({ connectionString: 'postgres://nobody@127.0.0.1:1/none', logger });
    const subscribing = bus.subscribe('any').catch((error: unknown) => error); // connects
    expect(await warned.promise).toMatch('could not connect');
    await bus.close();
    expect(await subscribing).toMatchObject({ code: 'closed' });
  });

  test('that throws ends nothing', async () => {
    const lost = nextMessage('sluice:listener.lost');
    const again = nextMessage<{ generation: number }>('sluice:listener.connected', (m) => m.generation === 2);
    const calls: unknown[] = [];
    const log = (...call: unknown[]): void => {
      calls.push(call);
      throw new Error('the disk is full');
    };
    const logger = { debug: log, info: log, warn: log, error: log };
    await using sluice = await connect({ connectionString: db.connectionString, logger });
    await db.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
       where datname = current_database() and application_name like 'sluice%'`,
    );
    await Promise.all([lost, again]);
    expect(calls.length).toBeGreaterThan(0);
    expect(await sluice.health()).toMatchObject({ ok: true });
  });
});
