// Guards how a bus ends: every iteration with it, at once, whatever is under way and whoever does not answer (I11).
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createNotifyBus, type NotifyBus, type NotifyBusOptions } from 'sluice';
import { expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { DeafProxy, targetOf, through } from '../support/deaf-proxy.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { lossyPool } from '../support/lossy-pool.ts';
import { Notices } from '../support/notices.ts';
import { createProxy, type Proxy } from '../support/proxy.ts';

const db = useDatabase();

const open = (options: NotifyBusOptions = {}): NotifyBus =>
  createNotifyBus({ connectionString: db.connectionString, heartbeatMs: 50, ...options });

/** A bus that listens directly, and sends through the proxy. */
const sendingThrough = async (proxy: Proxy): Promise<NotifyBus> => {
  const bus = open({
    connectionString: through(proxy, db.connectionString),
    listenConnectionString: db.connectionString,
    listenDeadlineMs: 200,
  });
  await bus.subscribe('a');
  return bus;
};

/** Whether a session of the bus has come so far as to ask for a notification. */
const isProving = async (): Promise<boolean> => {
  const { rowCount } = await db.query(
    `select from pg_stat_activity where datname = current_database() and query = 'listen "sluice:pulse"'`,
  );
  return rowCount === 1;
};

test('I11: leaving the loop, closing, the signal and the bus’s close each end an iteration normally', async () => {
  const bus = open();
  const abort = new AbortController();
  const left = await bus.subscribe('end');
  const closed = new Notices(await bus.subscribe('end'));
  const aborted = new Notices(await bus.subscribe('end', { signal: abort.signal }));
  const last = new Notices(await bus.subscribe('end'));
  const generations = bus.generations()[Symbol.asyncIterator]();
  await bus.notify('end', 'x');
  for await (const notice of left) {
    expect(notice.kind).toBe('message');
    break;
  }
  await closed.close();
  abort.abort();
  await aborted.ended;
  expect(bus.stats().subscriptions).toBe(1);
  const waiting = generations.next();
  await bus.close();
  await last.ended;
  expect(await waiting).toEqual({ done: true, value: undefined });
  await bus.close();
  await expect(bus.subscribe('end')).rejects.toMatchObject({ code: 'closed' });
  await expect(bus.notify('end')).rejects.toMatchObject({ code: 'closed' });
  expect(bus.stats().state).toBe('closed');
});

test('subscribing is abandoned by its signal with its reason, and by close', async () => {
  const unreachable = createNotifyBus({ connectionString: 'postgres://127.0.0.1:1/none' });
  const abort = new AbortController();
  const abandoned = unreachable.subscribe('a', { signal: abort.signal });
  const closing = unreachable.subscribe('a');
  abort.abort(new Error('enough'));
  await expect(abandoned).rejects.toThrow('enough');
  await expect(unreachable.subscribe('a', { signal: abort.signal })).rejects.toThrow('enough');
  expect(unreachable.channels).toEqual(['a']);
  await Promise.all([expect(closing).rejects.toMatchObject({ code: 'closed' }), unreachable.close()]);
  expect(unreachable.channels).toEqual([]);
});

test('I11: closing ends what is being connected, and waits for no deadline of it', async () => {
  using proxy = await createProxy(targetOf(db.connectionString));
  proxy.pause();
  const bus = createNotifyBus({
    connectionString: through(proxy, db.connectionString),
    listenDeadlineMs: 600_000,
  });
  const subscribing = bus.subscribe('a');
  await until(() => proxy.connections === 1);
  await Promise.all([expect(subscribing).rejects.toMatchObject({ code: 'closed' }), bus.close()]);
  proxy.resume();
  await until(() => proxy.connections === 0);
});

test('I11: closing waits for no answer of a query side that is silent, whoever asked it', async () => {
  using proxy = await createProxy(targetOf(db.connectionString));
  const bus = await sendingThrough(proxy);
  await bus.notify('a');
  proxy.pause();
  const sending = bus.notify('a'); // on one of its two connections; the heartbeat's on the other
  const failing = expect(sending).rejects.toMatchObject({ code: 'connection_lost' });
  for (let beat = 0; beat < 3; beat += 1) await nextMessage('sluice:listener.beat');
  await bus.close(); // with the proxy still silent
  await failing;
  proxy.resume();
  await until(() => proxy.connections === 0);
});

test('I11: nor of one that has not let anybody in, nor for what waits behind that', async () => {
  using proxy = await createProxy(targetOf(db.connectionString));
  const bus = await sendingThrough(proxy);
  proxy.pause();
  const sending = Array.from({ length: 20 }, async () => bus.notify('a')); // more than it has connections
  const failing = sending.map(async (each) =>
    expect(each).rejects.toMatchObject({ code: 'connection_lost' }),
  );
  await until(() => proxy.connections > 0);
  await Promise.all([bus.close(), ...failing]); // with the proxy still silent
  proxy.resume();
  await until(() => proxy.connections === 0);
});

test('I11: nor with a pool of the user’s, nor for whether notifications arrive', async () => {
  using proxy = await createProxy(targetOf(db.connectionString));
  using deaf = await new DeafProxy(targetOf(db.connectionString)).listen();
  const pool = lossyPool(through(proxy, db.connectionString));
  const bus = open({
    pool,
    listenConnectionString: through(deaf, db.connectionString),
    listenDeadlineMs: 200,
  });
  await bus.subscribe('a');
  const doubted = nextMessage('sluice:listener.lost');
  deaf.deaf = true;
  await doubted;
  proxy.pause();
  deaf.deaf = false;
  // By now it has connected again, and has asked for a notification that is not sent.
  await until(isProving);
  await until(() => pool.totalCount > pool.idleCount);
  await bus.close();
  proxy.resume();
  await pool.end();
});

test('what is not read when it is closed is dropped', async () => {
  await using bus = open();
  const subscription = await bus.subscribe('end');
  const watching = new Notices(await bus.subscribe('end'));
  await bus.notify('end', 'x');
  await until(() => watching.all.length === 1);
  await subscription.close();
  expect(await subscription[Symbol.asyncIterator]().next()).toEqual({ done: true, value: undefined });
});

test('I11: the process exits by itself once the bus is closed', async () => {
  const script = `
    import { createNotifyBus } from 'sluice';
    const bus = createNotifyBus({ connectionString: process.env.URL });
    const subscription = await bus.subscribe('a');
    void (async () => { for await (const _ of subscription); console.log('ended'); })();
    await bus.notify('a', 'x');
    await bus.close();`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    env: { ...process.env, URL: db.connectionString },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const [code] = (await once(child, 'exit')) as [number | null];
  expect({ code, output }).toEqual({ code: 0, output: 'ended\n' });
});
