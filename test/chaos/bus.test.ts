// Guards what a bus owes its subscribers when the network, the server or a process in between fails: it listens again,
// whatever it takes; a consumer that reads again at every marker ends complete; and nothing is missing without a marker
// at its place. Conditions decide when a fault has lasted long enough; how fast it all is, `bench -- bus` says.
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { Socket } from 'node:net';
import type { Pool } from 'pg';
import { createNotifyBus, type NotifyBus, type NotifyBusOptions, type SluiceError } from 'sluice';
import { startPostgres } from 'sluice/embedded';
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { DeafProxy, targetOf, through } from '../support/deaf-proxy.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { makeDataFolder, removeFolder, serverPids } from '../support/embedded-server.ts';
import { killListener } from '../support/faults.ts';
import { lossyPool } from '../support/lossy-pool.ts';
import { MessageProxy } from '../support/message-proxy.ts';
import { Keeper, Notices, Numbers } from '../support/notices.ts';
import { createProxy, type Proxy } from '../support/proxy.ts';
import { ServerPair } from '../support/server-pair.ts';

const db = useDatabase({ allowOpenSessions: true });
/** Beats often, and takes a machine that pauses for a fault only after two seconds. */
const patient = { heartbeatMs: 100, listenDeadlineMs: 2000, idleSessionTimeoutMs: 10_000 } as const;
/** A dead connection is noticed in a third of a second; so may be one that is not. */
const brisk = { heartbeatMs: 100, listenDeadlineMs: 200, idleSessionTimeoutMs: 1000 } as const;
/** In which whoever is wrongly thought deaf has been so for long enough. */
const BEATS = (2 * patient.listenDeadlineMs) / patient.heartbeatMs;

const open = (connectionString: string, options: NotifyBusOptions = {}): NotifyBus =>
  createNotifyBus({ connectionString, ...patient, ...options });

const lost = (): Promise<unknown> => nextMessage('sluice:listener.lost');

/** Sends until the signal, a few at a time, and whatever the test's own connection says. */
const sending = async (numbers: Numbers, signal: AbortSignal): Promise<void> => {
  while (!signal.aborted) await numbers.send(5);
};

const assertWhole = async (keeper: Keeper, numbers: Numbers, bus: NotifyBus): Promise<void> => {
  await keeper.settled();
  expect(keeper.notices.unmarked(numbers.last)).toEqual([]);
  expect(keeper.known.size).toBe(numbers.last);
  // One gap for each session but the first, or for several with nothing in between.
  expect(keeper.notices.gaps.at(-1)).toBe(bus.generation);
  expect(keeper.notices.gaps.length).toBeGreaterThan(0);
  expect(keeper.notices.gaps.length).toBeLessThan(bus.generation);
};

test('a session that had lived is followed by the next one at once, over a connection that TCP keeps alive', async () => {
  onTestFinished(() => void vi.useRealTimers().restoreAllMocks());
  const keepAlive = vi.spyOn(Socket.prototype, 'setKeepAlive');
  await using bus = open(db.connectionString);
  await bus.subscribe('stable');
  expect(keepAlive).toHaveBeenCalledWith(true, 5000);
  const now = performance.now.bind(performance);
  vi.spyOn(performance, 'now').mockImplementation(() => now() + 2000); // it has lived for two seconds more
  const [down, back] = [lost(), nextMessage('sluice:listener.connected')];
  vi.useFakeTimers({ toFake: ['setTimeout'] }); // a pause would not end
  await killListener(db);
  await down;
  await back;
  vi.useRealTimers();
});

test('I8: the backend is killed while 10 000 notifications go out', async () => {
  await using bus = open(db.connectionString);
  const numbers = await Numbers.create(db.pool, 'killed');
  const keeper = new Keeper(await bus.subscribe('killed', { buffer: 20_000 }), numbers);
  const all = (async () => {
    for (let sent = 0; sent < 10_000; sent += 50) await numbers.send(50);
  })();
  for (const reached of [1000, 3000, 6000]) {
    await until(() => numbers.last >= reached);
    const { generation } = bus;
    await killListener(db);
    await until(() => bus.generation > generation);
  }
  await all;
  await assertWhole(keeper, numbers, bus);
});

test('I8: nothing of a session is told before it listens to all of its channels, however many, and before its gap', async () => {
  await using bus = open(db.connectionString);
  const numbers = await Numbers.create(db.pool, 'first');
  const keeper = new Keeper(await bus.subscribe('first', { buffer: 20_000 }), numbers);
  await Promise.all(Array.from({ length: 4000 }, async (_, n) => bus.subscribe(`another ${n}`)));
  const stop = new AbortController();
  const sender = sending(numbers, stop.signal);
  for (const generation of [2, 3]) {
    await until(() => keeper.complete);
    await killListener(db);
    await until(() => bus.generation === generation);
  }
  stop.abort();
  await sender;
  await assertWhole(keeper, numbers, bus);
});

describe('I8: a fault of the network, under traffic', () => {
  test.each<[string, (proxy: Proxy) => void]>([
    ['a black hole', (proxy) => proxy.pause()],
    ['answers that do not come back', (proxy) => proxy.pauseServerToClient()],
    ['questions that do not arrive', (proxy) => proxy.pauseClientToServer()],
    ['a reset', (proxy) => proxy.cut()],
    ['an end from the server', (proxy) => proxy.halfClose('client')],
    ['an end towards the server', (proxy) => proxy.halfClose('server')],
    ['latency beyond the deadline', (proxy) => proxy.delay(500)],
  ])('%s', async (name, fault) => {
    using proxy = await createProxy(targetOf(db.connectionString));
    await using bus = open(through(proxy, db.connectionString), brisk);
    const numbers = await Numbers.create(db.pool, name);
    const keeper = new Keeper(await bus.subscribe(name, { buffer: 20_000 }), numbers);
    const stop = new AbortController();
    const sender = sending(numbers, stop.signal);
    await until(() => keeper.known.size > 20);
    const noticed = lost();
    fault(proxy);
    await noticed;
    proxy.delay(0);
    proxy.resume();
    await until(() => bus.generation > 1);
    stop.abort();
    await sender;
    await assertWhole(keeper, numbers, bus);
  });

  test('an outage in which connecting is refused, and one in which it hangs, end by themselves', async () => {
    using proxy = await createProxy(targetOf(db.connectionString));
    await using bus = open(through(proxy, db.connectionString), brisk);
    const numbers = await Numbers.create(db.pool, 'outage');
    const keeper = new Keeper(await bus.subscribe('outage', { buffer: 20_000 }), numbers);
    const failures = async (count: number): Promise<void> => {
      for (let failure = 0; failure < count; failure += 1) {
        await nextMessage<{ where: string }>('sluice:background.failed', ({ where }) => where === 'listener');
      }
    };
    const refused = failures(2);
    proxy.refuse();
    proxy.cut();
    await refused;
    await numbers.send(10);
    expect(bus.stats().state).toBe('reconnecting');
    await proxy.accept();
    await until(() => bus.generation >= 2);
    const hung = failures(2);
    proxy.pause();
    await numbers.send(10);
    await hung;
    proxy.resume();
    await until(() => bus.generation >= 3);
    await assertWhole(keeper, numbers, bus);
  });
});

test('I8: a flood behind which the answers stand is no fault: all of it arrives, over the session there is', async () => {
  using proxy = await createProxy(targetOf(db.connectionString));
  const listenDeadlineMs = 1000;
  const patience = { listenDeadlineMs, idleSessionTimeoutMs: 60_000 };
  await using bus = open(through(proxy, db.connectionString), patience);
  const notices = new Notices(await bus.subscribe('flood', { buffer: 1000 }));
  // One whose answer came later than an answer may where nothing is heard.
  const late = nextMessage<{ roundTripMs: number }>(
    'sluice:listener.beat',
    ({ roundTripMs }) => roundTripMs > listenDeadlineMs,
  );
  proxy.delay(50); // megabytes take it seconds
  await db.query(`select pg_notify('flood', rpad(n::text, 7900)) from generate_series(1, 700) n`);
  await until(() => notices.all.length >= 700);
  await late;
  expect(notices.unmarked(700)).toEqual([]);
  expect(notices.gaps).toEqual([]);
  expect(bus.generation).toBe(1);
});

test('I4 I8: one who subscribes while disconnected misses nothing from then on; the others are told of the gap', async () => {
  using proxy = await createProxy(targetOf(db.connectionString));
  await using bus = open(through(proxy, db.connectionString));
  const before = new Notices(await bus.subscribe('early'));
  const down = lost();
  proxy.refuse();
  proxy.cut();
  await down;
  const subscribing = [bus.subscribe('late'), bus.subscribe('early')];
  await db.query(`select pg_notify('late', 'unheard'), pg_notify('early', 'unheard')`);
  await proxy.accept();
  const [late, second] = (await Promise.all(subscribing)).map((each) => new Notices(each));
  await db.query(`select pg_notify('late', '1'), pg_notify('early', '1')`);
  await until(() => [before, late, second].every((each) => each?.payloads.length === 1));
  expect(before.all.map(({ kind }) => kind)).toEqual(['gap', 'message']);
  expect(bus.stats()).toMatchObject({ gaps: 1, reconnects: 1 });
  expect(late?.all.map(({ kind }) => kind)).toEqual(['message']);
  expect(second?.all.map(({ kind }) => kind)).toEqual(['message']);
});

describe('a connection on which everything works and no notification arrives', () => {
  test('is found out, told to those who subscribe, and left as soon as one does', async () => {
    using proxy = await new DeafProxy(targetOf(db.connectionString)).listen();
    await using bus = open(db.connectionString, {
      listenConnectionString: through(proxy, db.connectionString),
    });
    const numbers = await Numbers.create(db.pool, 'deaf');
    const keeper = new Keeper(await bus.subscribe('deaf', { buffer: 20_000 }), numbers);
    await numbers.send(10);
    const unavailable = nextMessage<{ error: SluiceError }>(
      'sluice:background.failed',
      ({ error }) => error.code === 'listener_unavailable',
    );
    proxy.deaf = true;
    await numbers.send(10);
    await unavailable;
    expect(bus.stats()).toMatchObject({ state: 'unavailable', generation: 1 });
    await expect(bus.subscribe('other')).rejects.toMatchObject({ code: 'listener_unavailable' });
    proxy.deaf = false;
    await until(() => bus.generation > 1);
    await assertWhole(keeper, numbers, bus);
    await bus.subscribe('other');
  });

  test('many buses in one database send about one heartbeat among them, and none is taken for deaf', async () => {
    const buses = Array.from({ length: 5 }, () => open(db.connectionString));
    await using client = await openClient(db.connectionString);
    let pulses = 0;
    client.on('notification', () => (pulses += 1));
    await client.query('listen "sluice:pulse"');
    let beats = 0;
    const onBeat = (): void => void (beats += 1);
    subscribe('sluice:listener.beat', onBeat);
    onTestFinished(() => void unsubscribe('sluice:listener.beat', onBeat));
    await Promise.all(buses.map((bus) => bus.subscribe('shared')));
    await until(() => beats >= buses.length * BEATS && pulses > 0);
    await client.query('select'); // what was sent until now has been counted
    // Whoever has heard one since its last beat sends none: even if all beat at the same moment, that is every second one.
    expect(pulses).toBeLessThan(0.75 * beats);
    expect(buses.map(({ generation }) => generation)).toEqual([1, 1, 1, 1, 1]);
    await Promise.all(buses.map((bus) => bus.close()));
  });

  test('a query side that is down says nothing of the listener', async () => {
    using proxy = await createProxy(targetOf(db.connectionString));
    await using bus = open(through(proxy, db.connectionString), {
      listenConnectionString: db.connectionString,
    });
    const heard = new Notices(await bus.subscribe('query side'));
    proxy.refuse();
    proxy.cut();
    await expect(bus.notify('query side', 'x')).rejects.toMatchObject({ code: 'connection_lost' });
    for (let beat = 0; beat < BEATS; beat += 1) await nextMessage('sluice:listener.beat');
    await db.query(`select pg_notify('query side', 'y')`);
    await until(() => heard.payloads.length === 1);
    expect({ generation: bus.generation, all: heard.all.length }).toEqual({ generation: 1, all: 1 });
  });
});

describe('I8: a session that breaks off in the midst of any message from the server', () => {
  test.each(['silent', 'ended'])('%s', async (how) => {
    // Login, parameters, the statements of a beginning, LISTEN: some 35 messages, and then notifications and heartbeats.
    const places = Array.from({ length: 48 }, (_, place) => place);
    const assertPlace = async (place: number): Promise<void> => {
      const fault = { after: place, done: false };
      using proxy = new MessageProxy(targetOf(db.connectionString), () => {
        let broken = false;
        return (message, end) => {
          if (broken) return undefined;
          if (fault.done || fault.after > 0) {
            fault.after -= 1;
            return message;
          }
          [broken, fault.done] = [true, true];
          if (how === 'ended') end();
          return message.subarray(0, 3);
        };
      });
      await proxy.listen();
      await using bus = open(db.connectionString, {
        ...brisk,
        listenConnectionString: through(proxy, db.connectionString),
      });
      const name = `${how} ${place}`;
      const numbers = await Numbers.create(db.pool, name);
      const [subscription] = await Promise.all([bus.subscribe(name), bus.subscribe(`${name} beside`)]);
      const keeper = new Keeper(subscription, numbers);
      await until(async () => {
        await numbers.send(2);
        return fault.done;
      });
      await keeper.settled();
      expect([place, keeper.notices.unmarked(numbers.last)]).toEqual([place, []]);
      expect(keeper.complete).toBe(true);
    };
    while (places.length > 0) await Promise.all(places.splice(0, 12).map(assertPlace));
  });
});

test('I8: whatever refuses the next session is waited out, by those who subscribe meanwhile too', async () => {
  const role = `bus_${process.pid}_${Date.now()}`;
  await db.query(`create role ${role} login password 'p'`);
  const url = new URL(db.connectionString);
  [url.username, url.password] = [role, 'p'];
  {
    await using bus = open(db.connectionString, { listenConnectionString: url.href });
    const notices = new Notices(await bus.subscribe('refused'));
    for (const [harm, mend] of [
      ['connection limit 0', 'connection limit -1'],
      [`password 'changed'`, `password 'p'`],
      ['nologin', 'login'],
    ]) {
      const failed = nextMessage<{ where: string }>(
        'sluice:background.failed',
        ({ where }) => where === 'listener',
      );
      await db.query(`alter role ${role} ${harm}`);
      await killListener(db);
      await failed;
      const subscribing = bus.subscribe(`while ${harm}`);
      await db.query(`alter role ${role} ${mend}`);
      const meanwhile = new Notices(await subscribing);
      await db.query(`select pg_notify($1, 'heard')`, [`while ${harm}`]);
      await until(() => meanwhile.all.length > 0);
      expect(meanwhile.payloads).toEqual(['heard']);
    }
    expect(notices.gaps).toEqual([2, 3, 4]);
  }
  await db.query(`drop role ${role}`);
});

describe('a server of its own', { timeout: 120_000 }, () => {
  const folder = makeDataFolder();
  const start = (): ReturnType<typeof startPostgres> =>
    startPostgres({
      dataDir: `${folder}/data`,
      settings: { fsync: 'off' },
      binaries: process.env['SLUICE_TEST_BINARIES'],
    });
  let server: Awaited<ReturnType<typeof start>>;
  let pool: Pool;

  beforeAll(async () => {
    server = await start();
    pool = lossyPool(server.connectionString);
  });
  afterAll(async () => {
    await pool.end();
    await server.stop();
    removeFolder(folder);
  });

  test('I8: is restarted five times in a row', async () => {
    await using bus = open(server.connectionString);
    const numbers = await Numbers.create(pool, 'restarted');
    const keeper = new Keeper(await bus.subscribe('restarted', { buffer: 20_000 }), numbers);
    for (let restart = 0; restart < 5; restart += 1) {
      await numbers.send(20);
      const { generation } = bus;
      await server.stop();
      server = await start();
      await numbers.send(20);
      await until(() => bus.generation > generation);
    }
    await assertWhole(keeper, numbers, bus);
  });

  test('I8: is stopped in its tracks, and goes on', async () => {
    await using bus = open(server.connectionString, brisk);
    const numbers = await Numbers.create(pool, 'frozen');
    const keeper = new Keeper(await bus.subscribe('frozen', { buffer: 20_000 }), numbers);
    await numbers.send(20);
    const pids = serverPids(server.dataDir);
    const noticed = lost();
    for (const pid of pids) process.kill(pid, 'SIGSTOP');
    try {
      await noticed;
      await nextMessage<{ where: string }>('sluice:background.failed', ({ where }) => where === 'listener');
    } finally {
      for (const pid of pids.reverse()) process.kill(pid, 'SIGCONT');
    }
    await numbers.send(20);
    await until(() => bus.generation > 1);
    await assertWhole(keeper, numbers, bus);
  });
});

describe('a failover', { timeout: 120_000 }, () => {
  test('a hot standby is refused; the new primary at the old address is followed', async () => {
    await using pair = await ServerPair.start({ synchronous_standby_names: '*' });
    await using lone = open(pair.standbyConnectionString);
    await expect(lone.subscribe('a')).rejects.toMatchObject({
      code: 'unsupported_server',
      message: expect.stringMatching(/standby.*listenConnectionString/),
    });
    await using bus = open(pair.connectionString);
    const numbers = await Numbers.create(pair.primary, 'failover');
    const keeper = new Keeper(await bus.subscribe('failover', { buffer: 20_000 }), numbers);
    await numbers.send(20);
    await pair.killPrimary();
    await pair.takeOver();
    await numbers.send(20);
    await until(() => bus.generation > 1);
    await assertWhole(keeper, numbers, bus);
  });
});
