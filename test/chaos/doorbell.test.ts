// Guards the doorbell and the relay role: with a fallback poll so far away that it cannot help, no wake-up is lost;
// while the relay is awake nobody notifies; and no forged, stale or garbled notification does harm. Each test names
// what a plausible doorbell gets wrong there.
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { Pool, type Client, type QueryConfig } from 'pg';
import { connect, type ConnectOptions, type Sluice, type StreamEvent } from 'sluice';
import { beforeAll, describe, expect, test } from 'vitest';
import { namesFor } from '../../src/db/names.ts';
import { quick } from '../support/chaos.ts';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { asleepLocks, roleLocks } from '../support/locks.ts';
import { randomFrom, withSeed } from '../support/seed.ts';
import { notified } from '../support/sessions.ts';
import { SluiceProcess } from '../support/sluice-process.ts';
import { targetOf, through } from '../support/deaf-proxy.ts';
import { createProxy } from '../support/proxy.ts';

const db = useDatabase({ allowOpenSessions: true });
const { relayChannel, readersChannel } = namesFor('sluice');
const never = 600_000;

const open = (options: ConnectOptions = {}): Promise<Sluice> =>
  connect({ connectionString: db.connectionString, ...quick, fallbackPollMs: never, ...options });

/** The events of a stream as they come; fails when one does not come within 20 s. */
const follow = (sluice: Sluice, stream: string): { next(): Promise<StreamEvent> } => {
  const events = sluice.stream(stream).subscribe()[Symbol.asyncIterator]();
  return {
    next: async () => {
      let result: IteratorResult<StreamEvent> | undefined;
      let failure: unknown;
      void events.next().then(
        (next) => (result = next),
        (error: unknown) => (failure = error),
      );
      await turns(20);
      if (!result) await until(() => result !== undefined || failure !== undefined);
      if (failure !== undefined) throw new Error('the subscription failed', { cause: failure });
      return result!.value as StreamEvent;
    },
  };
};

/** A user's pool; `watch` sees each statement of Sluice's and may hold back its answer. */
const watchedPool = (
  watch: (config: QueryConfig, result: Promise<unknown>) => void | Promise<void>,
): Pool => {
  const pool = new Pool({ connectionString: db.connectionString, max: 4 });
  return new Proxy(pool, {
    get: (target, member): unknown => {
      if (member !== 'query') return Reflect.get(target, member);
      return async (config: QueryConfig) => {
        const result = target.query(config);
        await watch(config, result);
        return result;
      };
    },
  });
};

const turns = async (count: number): Promise<void> => {
  for (let turn = 0; turn < count; turn += 1) await new Promise((done) => setImmediate(done));
};

const asleep = async (): Promise<boolean> =>
  (await asleepLocks(db.pool)).some(({ mode, granted }) => mode === 'ExclusiveLock' && granted);

/** The client's transaction has published, and found the relay awake: until it ends, the relay cannot sleep. */
async function publishWhileAwake(
  sluice: Sluice,
  client: Client & AsyncDisposable,
  begin: string,
): Promise<void> {
  const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
  await until(async () => {
    await sluice.stream('waker').publish(0);
    await client.query(begin);
    await client.query(`select sluice.publish('keeper', '0')`);
    const held = (await asleepLocks(db.pool)).some(
      ({ pid, mode }) => pid === rows[0]!.pid && mode === 'ShareLock',
    );
    if (!held) await client.query('rollback');
    return held;
  });
}

describe('waking', () => {
  test('I4, interleaving 15: hundreds of wake-ups, none lost', async () => {
    await withSeed(async (seed) => {
      const random = randomFrom(seed);
      await using sluice = await open();
      await sluice.createStream('idle');
      const idle = follow(sluice, 'idle');
      let slept = 0;
      const count = (): void => void (slept += 1);
      subscribe('sluice:relay.asleep', count);
      await using client = await openClient(db.connectionString);
      let offset = 0n;
      for (let cycle = 0; cycle < 250; cycle += 1) {
        if (random.chance(0.3)) await until(asleep);
        else await turns(random.below(60));
        const way = random.next();
        if (way < 0.3) await sluice.stream('idle').publish(0);
        else if (way < 0.6) await sluice.stream('idle').publishMany([{ data: 0 }, { data: 1 }]);
        else {
          await client.query('begin');
          await client.query(`select sluice.publish('idle', '0')`);
          await turns(random.below(20));
          await client.query('commit');
        }
        for (let events = way >= 0.3 && way < 0.6 ? 2 : 1; events > 0; events -= 1) {
          offset += 1n;
          expect((await idle.next()).offset).toBe(offset);
        }
      }
      unsubscribe('sluice:relay.asleep', count);
      expect(slept).toBeGreaterThan(20);
    });
  });

  test('I4, interleaving 15: a ring is heard that comes while the last pass before sleep is under way', async () => {
    const held: (() => void)[] = [];
    let holding = true;
    const pool = watchedPool(async ({ text }, result) => {
      await result;
      if (holding && text.includes('.pass(')) await new Promise<void>((release) => held.push(release));
    });
    await using sluice = await open({ pool });
    // The relay sleeps as far as publishers can see, and has not read the answer to its last pass.
    await until(async () => {
      if (held.length === 1 && (await asleep())) return true;
      held.shift()?.();
      return false;
    });
    await db.query(`select sluice.publish('late ring', '0')`);
    await notified(db.pool);
    holding = false;
    held.shift()!();
    await until(async () => (await sluice.stream('late ring').info())?.head === 1n);
    await sluice.close();
    await pool.end();
  });

  test('I4, interleavings 15 and 17: none lost while others hold their transactions open across the relay’s attempts to sleep', async () => {
    await withSeed(async (seed) => {
      const random = randomFrom(seed);
      await using sluice = await open();
      await sluice.createStream('with others');
      await sluice.createStream('held back');
      const events = follow(sluice, 'with others');
      const late = follow(sluice, 'held back');
      await using holder = await openClient(db.connectionString);
      let holding = false;
      for (let cycle = 1n; cycle <= 200n; cycle += 1n) {
        if (!holding && random.chance(0.2)) {
          await holder.query('begin');
          await sluice.stream('held back').publish(0, { tx: holder });
          holding = true;
        }
        await turns(random.below(60));
        await sluice.stream('with others').publish(0);
        expect((await events.next()).offset).toBe(cycle);
        if (holding && random.chance(0.3)) {
          await holder.query('commit');
          await late.next();
          holding = false;
        }
      }
    });
  });

  test('interleaving 18: a rolled-back savepoint gives the promise to stay awake back, so the next publish rings', async () => {
    await using sluice = await open();
    await using client = await openClient(db.connectionString);
    await sluice.createStream('savepoint');
    const events = follow(sluice, 'savepoint');
    await publishWhileAwake(sluice, client, 'begin; savepoint here');
    await client.query('rollback to savepoint here');
    await until(asleep);
    await sluice.stream('savepoint').publish('after', { tx: client });
    await client.query('commit');
    expect((await events.next()).data).toBe('after');
  });

  test('interleaving 18: a ring inside a rolled-back savepoint does not stand for the next publish', async () => {
    await using sluice = await open();
    await using client = await openClient(db.connectionString);
    await sluice.createStream('rung in vain');
    const events = follow(sluice, 'rung in vain');
    await until(asleep);
    await client.query('begin; savepoint here');
    await sluice.stream('rung in vain').publish('before', { tx: client });
    await client.query('rollback to savepoint here');
    await sluice.stream('rung in vain').publish('after', { tx: client });
    await client.query('commit');
    expect((await events.next()).data).toBe('after');
  });

  test('I2: what came while the listener was away is read when it is back', async () => {
    using proxy = await createProxy(targetOf(db.connectionString));
    await using relaying = await open();
    await using reading = await open({
      relay: false,
      listenConnectionString: through(proxy, db.connectionString),
    });
    await relaying.stream('away').append('before');
    const events = follow(reading, 'away');
    await events.next();
    proxy.refuse();
    const lost = nextMessage('sluice:listener.lost');
    proxy.cut();
    await lost;
    await relaying.stream('away').publish('meanwhile');
    await until(async () => (await relaying.stream('away').info())?.head === 2n);
    await proxy.accept();
    expect((await events.next()).data).toBe('meanwhile');
  });
});

describe('silence', () => {
  test('interleaving 16: publishers that find the relay awake send no notification, and it stays awake for them', async () => {
    await using sluice = await open();
    await using listening = await openClient(db.connectionString);
    await using keeper = await openClient(db.connectionString);
    await publishWhileAwake(sluice, keeper, 'begin');
    const heard: string[] = [];
    listening.on('notification', ({ payload = '' }) => heard.push(payload));
    await listening.query(`listen ${relayChannel}`);
    const pool = new Pool({ connectionString: db.connectionString, max: 16 });
    const calm = new AbortController();
    const waiting = (async (): Promise<number> => {
      let seen = 0;
      while (!calm.signal.aborted)
        seen += (await asleepLocks(db.pool)).filter(({ granted }) => !granted).length;
      return seen;
    })();
    const storm = Array.from({ length: 16 }, async (_, writer) => {
      for (let n = 0; n < 30; n += 1)
        await pool.query(`select sluice.publish($1, '0')`, [`storm ${writer % 4}`]);
    });
    await Promise.all(storm);
    calm.abort();
    await until(async () => {
      const heads = await Promise.all([0, 1, 2, 3].map((n) => sluice.stream(`storm ${n}`).info()));
      return heads.every((info) => info?.head === 120n);
    });
    await db.query('select pg_notify($1, $2)', [relayChannel, 'last']);
    await until(() => heard.includes('last'));
    expect(heard).toEqual(['last']);
    expect(await waiting).toBe(0);
    await pool.end();
  });
});

describe('what cannot be believed', () => {
  test('I4, interleaving 20: forged, stale and garbled notifications cost a read at most, and no wake-up is lost over them', async () => {
    let pages = 0;
    const pool = watchedPool(
      ({ text }) => void (text.includes('s.trimmed_tag, s.closed_at') && (pages += 1)),
    );
    await using sluice = await open({ pool });
    await sluice.stream('forged').append('before');
    const events = follow(sluice, 'forged');
    await events.next();
    const { rows } = await db.query<{ id: string }>(`select id from sluice.streams where name = 'forged'`);
    const incarnation = BigInt(rows[0]!.id).toString(36);
    const far = `${incarnation}:${(2n ** 62n).toString(36)}`;
    const payloads = [
      '', ' ', ':', ',', 'x', `${incarnation}:0`, `${incarnation}:1`, far, `${far},${far}`, `zzzzzzzzzzzzz:zzzzzzzzzzzzz`,
      `${incarnation}:-1`, '1:1:1', '{"json":true}', '\u{1F514}', 'a:b,'.repeat(1900), '9'.repeat(7999),
    ]; // prettier-ignore
    const before = pages;
    for (const channel of [relayChannel, readersChannel]) {
      for (const payload of payloads) await db.query('select pg_notify($1, $2)', [channel, payload]);
    }
    for (let offset = 2n; offset <= 4n; offset += 1n) {
      await sluice.stream('forged').publish(0);
      expect((await events.next()).offset).toBe(offset);
    }
    expect(before).toBeGreaterThan(0);
    expect(pages - before).toBeLessThanOrEqual(payloads.length * 2 + 6);
    await sluice.close();
    await pool.end();
  });
});

describe('prepared transactions', () => {
  beforeAll(async () => {
    const { rows } = await db.query<{ max: string }>(
      `select current_setting('max_prepared_transactions') as max`,
    );
    if (Number(rows[0]!.max) === 0) throw new Error('these tests need max_prepared_transactions above 0');
  });

  test('I3, interleaving 17: without a ring one can be prepared while the relay sleeps, and is delivered after its commit', async () => {
    await using sluice = await open({ fallbackPollMs: quick.fallbackPollMs });
    await using client = await openClient(db.connectionString);
    await sluice.createStream('prepared');
    const events = follow(sluice, 'prepared');
    await until(asleep);
    await client.query('begin');
    await client.query(`select sluice.publish('prepared', '"quietly"', p_ring => false)`);
    await client.query(`prepare transaction 'quiet'`);
    await sluice.stream('prepared').publish('meanwhile');
    expect((await events.next()).data).toBe('meanwhile');
    await db.query(`commit prepared 'quiet'`);
    expect((await events.next()).data).toBe('quietly');
  });

  test('interleaving 17: with a ring it is refused, and one that found the relay awake keeps it awake', async () => {
    await using sluice = await open();
    await using client = await openClient(db.connectionString);
    await sluice.createStream('keeper');
    await until(asleep);
    await client.query('begin');
    await client.query(`select sluice.publish('keeper', '"refused"')`);
    await expect(client.query(`prepare transaction 'rung'`)).rejects.toMatchObject({ code: '0A000' });
    await publishWhileAwake(sluice, client, 'begin');
    await client.query(`prepare transaction 'awake'`);
    await sluice.stream('keeper').publish('meanwhile');
    const events = follow(sluice, 'keeper');
    expect((await events.next()).data).toBe('meanwhile');
    expect(await asleep()).toBe(false);
    await db.query(`commit prepared 'awake'`);
    expect((await events.next()).data).toBe(0);
  });
});

test('interleavings 19 and 21: of two processes one has the relay role, nobody waits for it, and it passes on when its holder is gone', async () => {
  const start = (): Promise<SluiceProcess> =>
    SluiceProcess.start({ connectionString: db.connectionString, ...quick, fallbackPollMs: never });
  await using reading = await open({ relay: false });
  await reading.createStream('relayed');
  const events = follow(reading, 'relayed');
  await using first = await start();
  await using second = await start();
  const holder = async (): Promise<number> => {
    await until(async () => (await roleLocks(db.pool)).length > 0);
    const locks = await roleLocks(db.pool);
    expect(locks).toEqual([{ pid: locks[0]!.pid, mode: 'ExclusiveLock', granted: true }]);
    return locks[0]!.pid;
  };
  await until(() => first.holdsRole || second.holdsRole);
  const [holding, waiting] = first.holdsRole ? [first, second] : [second, first];
  const before = await holder();
  await reading.stream('relayed').publish('by the first');
  expect((await events.next()).data).toBe('by the first');
  await holding.kill();
  await until(() => waiting.holdsRole);
  expect(await holder()).not.toBe(before);
  await reading.stream('relayed').publish('by the second');
  expect((await events.next()).data).toBe('by the second');
  await using third = await start();
  await waiting.close();
  await until(() => third.holdsRole);
  await reading.stream('relayed').publish('by the third');
  expect((await events.next()).data).toBe('by the third');
  await holder();
  await third.close();
});
