// Guards what Sluice does behind a pooler, with a real PgBouncer. In session mode all works, and every new session shows.
// In transaction mode LISTEN succeeds and nothing arrives: that is found out and said with its remedy, events are
// delivered by polling, nothing of ours stays on server connections that are other people's, and a direct address for
// the listener mends it.
import { Client } from 'pg';
import { connect, createNotifyBus, type NotifyBus, type Sluice } from 'sluice';
import { describe, expect, test, type TestContext } from 'vitest';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { killListener } from '../support/faults.ts';
import { Following } from '../support/following.ts';
import { roleLocks } from '../support/locks.ts';
import { lossyPool } from '../support/lossy-pool.ts';
import { PgBouncer, type PgBouncerOptions } from '../support/pgbouncer.ts';

const db = useDatabase();
const never = 600_000;
/** Notifications never arrive here, so the tests need not wait for them as long as users should. */
const impatient = { listenDeadlineMs: 1000 };

const start = (context: TestContext, mode: PgBouncerOptions['mode'], poolSize?: number): Promise<PgBouncer> =>
  PgBouncer.start(context, { connectionString: db.connectionString, mode, poolSize });

/** The next notices of a channel, read by hand. */
const follow = async (bus: NotifyBus, channel: string): Promise<() => Promise<unknown>> => {
  const notices = (await bus.subscribe(channel))[Symbol.asyncIterator]();
  return async () => (await notices.next()).value;
};

const message = (payload: string): object => ({ kind: 'message', payload, processId: expect.any(Number) });

const refused = {
  name: 'SluiceError',
  code: 'listener_unavailable',
  retryable: true,
  message: expect.stringMatching(/pooler in transaction mode.*; give .* as listenConnectionString$/),
};

interface Footprint {
  readonly pid: number;
  readonly settings: Readonly<Record<string, string>>;
  readonly channels: readonly string[];
  readonly prepared: readonly string[];
  /** Advisory locks. */
  readonly locks: number;
}

/** What stays on a server connection between its users: of a pooler with a single one, what others would meet. */
const footprint = async (pooler: PgBouncer): Promise<Footprint> => {
  const client = new Client({ connectionString: pooler.connectionString, application_name: 'test client' });
  await client.connect();
  try {
    const { rows } = await client.query<Footprint>(
      `select pg_backend_pid() as pid,
         (select jsonb_object_agg(name, setting) from pg_settings where source = 'session') as settings,
         array(select pg_listening_channels()) as channels,
         array(select name from pg_prepared_statements) as prepared,
         (select count(*)::int from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()) as locks`,
    );
    return rows[0]!;
  } finally {
    await client.end();
  }
};

describe('in session mode', () => {
  test('a bus hears, and a server process that dies shows as a gap', async (context) => {
    await using pooler = await start(context, 'session');
    await using bus = createNotifyBus({ connectionString: pooler.connectionString });
    const next = await follow(bus, 'orders');
    expect(bus.generation).toBe(1);
    await bus.notify('orders', 'one');
    await db.query(`select pg_notify('orders', 'two')`);
    expect(await next()).toEqual(message('one'));
    expect(await next()).toEqual(message('two'));

    const connected = nextMessage<{ generation: number }>('sluice:listener.connected');
    expect(await killListener(db)).toBe(1);
    expect(await connected).toMatchObject({ generation: 2 });
    await bus.notify('orders', 'three');
    expect(await next()).toEqual({ kind: 'gap', generation: 2 });
    expect(await next()).toEqual(message('three'));
    expect(bus.stats()).toMatchObject({ state: 'listening', generation: 2, reconnects: 1 });
  });

  test('a pooler that restarts shows as a gap', async (context) => {
    await using pooler = await start(context, 'session');
    await using bus = createNotifyBus({ connectionString: pooler.connectionString });
    const next = await follow(bus, 'orders');
    await bus.notify('orders', 'before');
    expect(await next()).toEqual(message('before'));
    const lost = nextMessage('sluice:listener.lost');
    const failed = nextMessage<Failed>('sluice:background.failed', ({ where }) => where === 'listener');
    await pooler.stop();
    await lost;
    expect((await failed).error).toMatchObject({ code: 'connection_lost' });
    expect(bus.stats().state).toBe('reconnecting');
    await db.query(`select pg_notify('orders', 'unheard')`);

    const connected = nextMessage<{ generation: number }>('sluice:listener.connected');
    await pooler.start();
    expect(await connected).toMatchObject({ generation: 2 });
    await bus.notify('orders', 'after');
    expect(await next()).toEqual({ kind: 'gap', generation: 2 });
    expect(await next()).toEqual(message('after'));
  });

  test('I2: events are delivered live, by the one that holds the relay role, until it closes', async (context) => {
    await using pooler = await start(context, 'session');
    {
      const connectionString = pooler.connectionString;
      await using sluice = await connect({ connectionString, fallbackPollMs: never });
      expect(await sluice.health()).toMatchObject({ ok: true, listenerState: 'listening', generation: 1 });
      await deliver(sluice, 'session');
      expect(await roleLocks(db.pool)).toHaveLength(1);
    }
    await until(async () => (await pooler.clients()) === 0);
    expect(await roleLocks(db.pool)).toEqual([]);
  });
});

describe('in transaction mode', () => {
  test('a bus says that it cannot listen, and what mends it', async (context) => {
    await using pooler = await start(context, 'transaction');
    await using bus = createNotifyBus({ connectionString: pooler.connectionString, ...impatient });
    const failed = nextMessage<Failed>('sluice:background.failed', ({ where }) => where === 'listener');
    await expect(bus.subscribe('orders')).rejects.toMatchObject(refused);
    expect((await failed).error).toMatchObject(refused);
    expect(bus.stats()).toMatchObject({ state: 'unavailable', generation: 0, subscriptions: 0 });
    await expect(bus.subscribe('orders')).rejects.toMatchObject(refused);
  });

  test('a bus with a direct address for the listener hears, and sends through the pooler', async (context) => {
    await using pooler = await start(context, 'transaction', 1);
    const { pid } = await footprint(pooler);
    await using bus = createNotifyBus({
      connectionString: pooler.connectionString,
      listenConnectionString: db.connectionString,
    });
    const next = await follow(bus, 'orders');
    await bus.notify('orders', 'one');
    expect(await next()).toEqual({ kind: 'message', payload: 'one', processId: pid });
    expect(bus.stats()).toMatchObject({ state: 'listening', generation: 1 });
  });

  test('a bus leaves nothing on the server connection: no setting, no LISTEN, no prepared statement', async (context) => {
    await using pooler = await start(context, 'transaction', 1);
    const before = await footprint(pooler);
    const bus = createNotifyBus({ connectionString: pooler.connectionString, ...impatient });
    await expect(bus.subscribe('orders')).rejects.toMatchObject(refused);
    await bus.notify('orders', 'to nobody');
    await bus.close(); // it is tried again before that, so something may be in force meanwhile
    await until(async () => (await pooler.clients()) === 0);
    expect(await footprint(pooler)).toEqual(before);
  });

  test('I4: Sluice carries on by polling, says so, and leaves nothing behind', async (context) => {
    await using pooler = await start(context, 'transaction', 1);
    const before = await footprint(pooler);
    const { connectionString } = pooler;
    const sluice = await connect({ connectionString, fallbackPollMs: 50, ...impatient });
    expect(await sluice.health()).toEqual({
      ok: false,
      database: true,
      listener: false,
      listenerState: 'unavailable',
      generation: 0,
    });
    await deliver(sluice, 'polled');
    await expect(sluice.bus.subscribe('orders')).rejects.toMatchObject(refused);
    expect(await roleLocks(db.pool)).toEqual([]);
    await sluice.close();
    await until(async () => (await pooler.clients()) === 0);
    expect(await footprint(pooler)).toEqual(before);
  });

  // A second use of a name fails there: PgBouncer knows nothing of prepared statements before 1.21.
  test('I3: nothing stays prepared on the clients and the pool of a user', async (context) => {
    await using pooler = await start(context, 'transaction', 1);
    const before = await footprint(pooler);
    const pool = lossyPool(pooler.connectionString);
    {
      const connectionString = pooler.connectionString;
      await using sluice = await connect({ connectionString, pool, fallbackPollMs: never, ...impatient });
      await using client = await openClient(pooler.connectionString);
      for (const round of [1, 2]) {
        await client.query('begin');
        await sluice.stream('prepared').publish(round, { tx: client });
        await client.query('commit');
        await sluice.stream('prepared').append(round);
      }
      expect((await sluice.stream('prepared').read()).events.map(({ data }) => data)).toEqual([1, 1, 2, 2]);
    }
    await pool.end();
    expect(await footprint(pooler)).toEqual(before);
  });

  test('I2: with a direct address for the listener events are delivered live', async (context) => {
    await using pooler = await start(context, 'transaction', 1);
    const before = await footprint(pooler);
    const sluice = await connect({
      connectionString: pooler.connectionString,
      listenConnectionString: db.connectionString,
      fallbackPollMs: never,
    });
    expect(await sluice.health()).toMatchObject({ ok: true, listenerState: 'listening', generation: 1 });
    await deliver(sluice, 'direct');
    await until(async () => (await roleLocks(db.pool)).length === 1);
    const next = await follow(sluice.bus, 'orders');
    await sluice.bus.notify('orders', 'one');
    expect(await next()).toEqual(message('one'));
    await sluice.close();
    expect(await footprint(pooler)).toEqual(before);
  });
});

interface Failed {
  readonly where: string;
  readonly error: Error;
}

/** What is appended and published reaches a subscriber. */
async function deliver(sluice: Sluice, name: string): Promise<void> {
  await sluice.createStream(name);
  await using following = new Following(sluice, name, 'start');
  await following.ready;
  const stream = sluice.stream<string>(name);
  await stream.append('appended');
  expect(await following.next(1)).toEqual(['1 appended']);
  await stream.publish('published');
  expect(await following.next(1)).toEqual(['2 published']);
  // More at once than there are server connections, so that statements meet those that others have used.
  const many = Array.from({ length: 20 }, (_, index) => String(index));
  await Promise.all(many.map((data) => stream.publish(data)));
  const seen = await following.next(many.length);
  expect(new Set(seen.map((event) => event.split(' ')[1]))).toEqual(new Set(many));
}
