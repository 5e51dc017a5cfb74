// Guards the promise itself: whatever happens meanwhile, what writers committed is in the logs and with the readers,
// once, in order (I1 to I4). Random writers and readers, one fault after the other, one judge (test/support/history.ts);
// test/chaos/naive.test.ts shows that this judge sees what a plausible design loses.
import { Pool } from 'pg';
import { connect, type ConnectOptions, type Sluice } from 'sluice';
import { beforeAll, expect, test } from 'vitest';
import { arrived, assertSound, headsOf, quick, settle, watchHeads } from '../support/chaos.ts';
import { useDatabase } from '../support/database.ts';
import { DeafProxy, targetOf, through } from '../support/deaf-proxy.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { killBackends, rotateOutbox, runPasses } from '../support/faults.ts';
import { roleLocks } from '../support/locks.ts';
import { createProxy } from '../support/proxy.ts';
import { Reader } from '../support/readers.ts';
import { randomFrom, withSeed } from '../support/seed.ts';
import { RemoteReader, SluiceProcess } from '../support/sluice-process.ts';
import { sluiceDesign, Writers } from '../support/writers.ts';

const db = useDatabase({ allowOpenSessions: true });
let pool: Pool;

const writersPool = (connectionString: string): Pool => {
  const made = new Pool({ connectionString, max: 16, application_name: 'chaos writer' });
  made.on('connect', (client) => client.on('error', () => {}));
  made.on('error', () => {});
  return made;
};

beforeAll(() => {
  pool = writersPool(db.connectionString);
  return () => pool.end();
});

let histories = 0;
/** Four streams that no other history of this file has; they come into being when they are first written to. */
const newStreams = (): string[] => {
  histories += 1;
  return ['a', 'b', 'c', 'd'].map((name) => `history ${histories} ${name}`);
};

const open = (options: ConnectOptions = {}): Promise<Sluice> =>
  connect({ connectionString: db.connectionString, ...quick, ...options });

/** For every stream one reader from the start, and one that comes and goes, through any of the processes. */
const audience = (seed: number, streams: readonly string[], sluices: readonly Sluice[]): Reader[] => {
  const random = randomFrom(seed + 1);
  return streams.flatMap((stream) => [
    new Reader({ name: 'patient', stream, sluice: () => sluices[0]! }),
    new Reader({ name: 'restless', stream, sluice: () => random.pick(sluices), restless: random }),
  ]);
};

/** For every stream a reader that begins in the middle of what is there. */
const latecomers = async (streams: readonly string[], sluice: Sluice): Promise<Reader[]> => {
  const heads = await headsOf(db.pool, streams);
  return heads.map(
    ({ stream, head }) => new Reader({ name: 'late', stream, after: head / 2n, sluice: () => sluice }),
  );
};

test('I1 I2 I3: without faults, while the outbox is rotated all the time', async () => {
  await withSeed(async (seed) => {
    await using first = await open();
    await using second = await open();
    const streams = newStreams();
    const readers = audience(seed, streams, [first, second]);
    const writers = new Writers({ seed, designs: [first, second].map(sluiceDesign), pool, streams });
    const done = new AbortController();
    const heads = watchHeads(db.pool, streams, done.signal);
    const rotations = rotateOutbox(db.pool, done.signal);
    await writers.run(75);
    const second75 = writers.run(75);
    readers.push(...(await latecomers(streams, second)));
    await second75;
    done.abort();
    const history = await settle({ pool: db.pool, sluice: first, writers, readers, heads: await heads });
    assertSound(history);
    expect(await rotations).toBeGreaterThan(0);
  });
});

test('I1 I3: while a backlog is moved in small pieces from several sides', async () => {
  await withSeed(async (seed) => {
    // Nothing moves by itself: no relay, and a poll that is far away.
    await using idle = await open({ relay: false, fallbackPollMs: 600_000 });
    const streams = newStreams();
    const random = randomFrom(seed);
    const writers = new Writers({ seed, designs: [sluiceDesign(idle)], pool, streams, appends: false });
    await writers.run(60);
    const done = new AbortController();
    const heads = watchHeads(db.pool, streams, done.signal);
    const passes = [1, 2, 3].map(() => runPasses(db.pool, random, done.signal));
    await writers.run(60);
    done.abort();
    const cut = await Promise.all(passes);
    await using sluice = await open();
    const readers = audience(seed, streams, [sluice]);
    assertSound(await settle({ pool: db.pool, sluice, writers, readers, heads: await heads }));
    expect(cut.reduce((sum, count) => sum + count)).toBeGreaterThan(0);
  });
});

test('I1 I2 I3: while backends of the writers and of Sluice are killed', async () => {
  await withSeed(async (seed) => {
    await using first = await open();
    await using second = await open();
    const streams = newStreams();
    const readers = audience(seed, streams, [first, second]);
    const designs = [first, second].map(sluiceDesign);
    const writers = new Writers({ seed, designs, pool, streams, lossy: true });
    const done = new AbortController();
    const applications = ['chaos writer', 'sluice', 'sluice listener'];
    const killed = killBackends(db.pool, randomFrom(seed), { applications, signal: done.signal });
    await writers.run(60);
    const running = writers.run(60);
    readers.push(...(await latecomers(streams, second)));
    await running;
    done.abort();
    expect(await killed).toBeGreaterThan(0);
    assertSound(await settle({ pool: db.pool, sluice: first, writers, readers }));
    expect(new Set(writers.transactions.map(({ outcome }) => outcome))).toContain('unknown');
  });
});

test('I1 I2 I3: while all connections are cut again and again', async () => {
  await withSeed(async (seed) => {
    using proxy = await createProxy(targetOf(db.connectionString));
    const connectionString = through(proxy, db.connectionString);
    const fragile = writersPool(connectionString);
    await using cut = await open({ connectionString });
    await using steady = await open();
    const streams = newStreams();
    const readers = audience(seed, streams, [cut, steady]);
    const designs = [cut, steady].map(sluiceDesign);
    const writers = new Writers({ seed, designs, pool: fragile, streams, lossy: true });
    for (let round = 0; round < 6; round += 1) {
      const enough = writers.transactions.length + 100;
      const running = writers.run(15);
      await until(() => writers.transactions.length >= enough);
      const back = nextMessage('sluice:listener.connected');
      proxy.cut();
      await Promise.all([running, back]);
    }
    assertSound(await settle({ pool: db.pool, sluice: cut, writers, readers }));
    await fragile.end();
    expect(new Set(writers.transactions.map(({ outcome }) => outcome))).toContain('unknown');
  });
});

test('I4: with every notification dropped', async () => {
  await withSeed(async (seed) => {
    using proxy = await new DeafProxy(targetOf(db.connectionString)).listen();
    const listenConnectionString = through(proxy, db.connectionString);
    await using first = await open({ listenConnectionString });
    await using second = await open({ listenConnectionString });
    const streams = newStreams();
    const readers = audience(seed, streams, [first, second]);
    const writers = new Writers({ seed, designs: [first, second].map(sluiceDesign), pool, streams });
    proxy.deaf = true;
    await writers.run(60);
    await arrived({ pool: db.pool, readers });
    expect(proxy.dropped).toBeGreaterThan(0);
    proxy.deaf = false;
    await writers.run(15);
    assertSound(await settle({ pool: db.pool, sluice: first, writers, readers }));
  });
});

test('I4: with the listener in a black hole', async () => {
  await withSeed(async (seed) => {
    using proxy = await createProxy(targetOf(db.connectionString));
    await using lost = await open({ listenConnectionString: through(proxy, db.connectionString) });
    const streams = newStreams();
    const readers = audience(seed, streams, [lost]);
    const writers = new Writers({ seed, designs: [sluiceDesign(lost)], pool, streams });
    await writers.run(15);
    const noticed = nextMessage('sluice:listener.lost');
    proxy.pause();
    await writers.run(30);
    await noticed;
    await writers.run(30);
    await arrived({ pool: db.pool, readers });
    const back = nextMessage('sluice:listener.connected');
    proxy.resume();
    await back;
    await writers.run(15);
    assertSound(await settle({ pool: db.pool, sluice: lost, writers, readers }));
  });
});

test('I1 I2 I3 I4: while the process with the relay role is killed', async () => {
  await withSeed(async (seed) => {
    await using sluice = await open({ relay: false });
    const streams = newStreams();
    const readers = audience(seed, streams, [sluice]);
    await using first = await SluiceProcess.start({ connectionString: db.connectionString, ...quick });
    const remote = streams.map((stream) => new RemoteReader('remote', stream));
    for (const reader of remote) first.follow(reader);
    const writers = new Writers({ seed, designs: [sluiceDesign(sluice)], pool, streams });
    await until(() => first.holdsRole);
    const enough = writers.transactions.length + 400;
    const running = writers.run(50);
    await until(() => writers.transactions.length >= enough);
    await first.kill();
    await using second = await SluiceProcess.start({ connectionString: db.connectionString, ...quick });
    for (const reader of remote) second.follow(reader);
    await running;
    await writers.run(50);
    await until(() => second.holdsRole);
    await writers.run(20);
    assertSound(await settle({ pool: db.pool, sluice, writers, readers: [...readers, ...remote] }));
    await second.close();
  });
});

test('I4: while the process with the relay role is stopped', async () => {
  await withSeed(async (seed) => {
    await using frozen = await SluiceProcess.start({ connectionString: db.connectionString, ...quick });
    await until(() => frozen.holdsRole);
    const streams = newStreams();
    const remote = streams.map((stream) => new RemoteReader('in the stopped process', stream));
    for (const reader of remote) frozen.follow(reader);
    await using sluice = await open();
    const readers = audience(seed, streams, [sluice]);
    const writers = new Writers({ seed, designs: [sluiceDesign(sluice)], pool, streams });
    await writers.run(15);
    const [before] = await roleLocks(db.pool);
    frozen.stop();
    await writers.run(50);
    await arrived({ pool: db.pool, readers });
    await until(async () => (await roleLocks(db.pool)).some(({ pid }) => pid !== before?.pid));
    const running = writers.run(30);
    frozen.resume();
    await running;
    assertSound(await settle({ pool: db.pool, sluice, writers, readers: [...readers, ...remote] }));
    await frozen.close();
  });
});
