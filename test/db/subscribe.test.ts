// Guards I2 for subscriptions in a process: replay and then live, each event once and in order, whoever writes and
// whatever breaks; and that a subscription ends cleanly however it is ended.
import { getEventListeners } from 'node:events';
import { connect, type ConnectOptions, type Sluice, type Stream, type StreamEvent } from 'sluice';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { coreOf } from '../../src/sluice/connect.ts';
import { toStreamEvent } from '../../src/log/event.ts';
import { EventIterator } from '../../src/tail/iterate.ts';
import { Tails } from '../../src/tail/tails.ts';
import { silentLogger } from '../../src/util/logger.ts';
import { deferred } from '../../src/util/deferred.ts';
import { useDatabase } from '../support/database.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { createProxy, type Proxy } from '../support/proxy.ts';
import { randomFrom, withSeed } from '../support/seed.ts';

const db = useDatabase();
/** A poll that does not come round while a test runs, so that nothing but a wake-up delivers. */
const never = 600_000;
const open = (options: ConnectOptions = {}): Promise<Sluice> =>
  connect({ connectionString: db.connectionString, fallbackPollMs: never, ...options });
/** A proxy before the database, and the connection string that goes through it. */
const openProxy = async (): Promise<{ proxy: Proxy; through: string }> => {
  const through = new URL(db.connectionString);
  const proxy = await createProxy({ targetPort: Number(through.port) });
  through.host = `${proxy.host}:${proxy.port}`;
  return { proxy, through: String(through) };
};

let sluice: Sluice;
let elsewhere: Sluice;

beforeAll(async () => {
  [sluice, elsewhere] = await Promise.all([open(), open()]);
});
afterAll(async () => {
  await Promise.all([sluice.close(), elsewhere.close()]);
});

let names = 0;
const nameOf = async (count: number): Promise<string> => {
  const name = `subscribe ${(names += 1)}`;
  await elsewhere.createStream(name);
  await write(name, count);
  return name;
};
const write = async (name: string, count: number, by: Sluice = elsewhere): Promise<void> => {
  if (count > 0) await by.stream(name).appendMany(Array.from({ length: count }, () => ({ data: 0 })));
};
const from = (first: number, last: number): number[] =>
  Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => first + index);

/** Follows a stream in the background. `stalled`: it holds its first event until told to go on. */
class Follower {
  readonly offsets: number[] = [];
  readonly values: unknown[] = [];
  readonly ready: Promise<void>;
  error: Error | undefined;
  ended = false;
  readonly #close: () => Promise<void>;
  readonly #done: Promise<void>;
  constructor(stream: Stream, options: Parameters<Stream['subscribe']>[0] = {}, stalled?: Promise<void>) {
    const subscription = stream.subscribe(options);
    this.ready = subscription.ready;
    this.#close = () => subscription.close();
    this.#done = this.#follow(subscription, stalled).catch((error: unknown) => {
      this.error = error as Error;
    });
  }
  async #follow(subscription: AsyncIterable<StreamEvent>, stalled?: Promise<void>): Promise<void> {
    for await (const { offset, data } of subscription) {
      this.offsets.push(Number(offset));
      this.values.push(data);
      await stalled;
    }
    this.ended = true;
  }
  /** Resolves when `offset` has come. */
  async reached(offset: number): Promise<void> {
    await until(() => this.error !== undefined || (this.offsets.at(-1) ?? 0) >= offset);
    if (this.error !== undefined) throw this.error;
  }
  async close(): Promise<number[]> {
    await this.#close();
    await this.#done;
    if (this.error !== undefined) throw this.error;
    return this.offsets;
  }
  async end(): Promise<unknown> {
    await this.#done;
    return this.error;
  }
}

describe('replay, then live', () => {
  test('I2: neither a gap nor a duplicate under concurrent appends and publishes in two processes', () =>
    withSeed(async (seed) => {
      const name = await nameOf(0);
      const random = randomFrom(seed);
      const writing = [0, 1, 2, 3].map(async (writer) => {
        const stream = (writer % 2 === 0 ? sluice : elsewhere).stream(name);
        for (let n = 0; n < 60; n += 1) {
          const data = `${writer}:${n}`;
          if (random.chance(0.4)) await stream.publish(data);
          else if (random.chance(0.5)) await stream.append(data);
          else await stream.appendMany([{ data }, { data }]);
        }
      });
      const followers: { after: bigint; follower: Follower }[] = [];
      const joining = (async () => {
        for (let joined = 0; joined < 12; joined += 1) {
          const head = (await elsewhere.stream(name).info())?.head ?? 0n;
          const after = random.pick([0n, head, head > 5n ? head - 5n : 0n]);
          const follower = new Follower(random.pick([sluice, elsewhere]).stream(name), { after });
          followers.push({ after, follower });
          await follower.ready;
        }
      })();
      await Promise.all([...writing, joining]);
      await until(async () => (await db.query('select from sluice.outbox limit 1')).rowCount === 0);
      const log = (await sluice.stream(name).read()).events;
      expect(new Set(log.map(({ data }) => data)).size).toBe(240);
      for (const { after, follower } of followers) {
        await follower.reached(log.length);
        expect(await follower.close()).toEqual(from(Number(after) + 1, log.length));
        expect(follower.values).toEqual(log.slice(Number(after)).map(({ data }) => data));
      }
    }));

  test('I2: thirty subscribers at thirty places each get all that follows theirs', async () => {
    const name = await nameOf(30);
    const followers = Array.from(
      { length: 30 },
      (_, after) =>
        new Follower((after % 3 === 0 ? elsewhere : sluice).stream(name), { after: BigInt(after) }),
    );
    for (let n = 0; n < 10; n += 1) {
      await write(name, 1, sluice);
      await write(name, 2);
      await elsewhere.stream(name).publish(n);
    }
    for (const [after, follower] of followers.entries()) {
      await follower.reached(70);
      expect(await follower.close()).toEqual(from(after + 1, 70));
    }
  });

  test('I2: two processes get what the other wrote by its notifications, not by the poll', async () => {
    const name = await nameOf(0);
    const [here, there] = [sluice, elsewhere].map((process) => new Follower(process.stream(name)));
    await Promise.all([here!.ready, there!.ready]);
    for (let offset = 1; offset <= 12; offset += 4) {
      await write(name, 1, sluice);
      await write(name, 1, elsewhere);
      await sluice.stream(name).publish(0);
      await elsewhere.stream(name).publish(0);
      await Promise.all([here!.reached(offset + 3), there!.reached(offset + 3)]);
    }
    expect([await here!.close(), await there!.close()]).toEqual([from(1, 12), from(1, 12)]);
  });

  test("I2: 'end' is fixed when ready resolves, and nothing older comes", async () => {
    const name = await nameOf(3);
    const head = async (): Promise<number> => Number((await elsewhere.stream(name).info())!.head);
    const stopping = new AbortController();
    const writer = (async () => {
      while (!stopping.signal.aborted) await write(name, 1);
    })();
    for (let round = 0; round < 10; round += 1) {
      const before = await head();
      const follower = new Follower(sluice.stream(name), { after: 'end' });
      await follower.ready;
      const after = await head();
      await follower.reached(after + 1);
      const offsets = await follower.close();
      expect(offsets[0]).toBeGreaterThan(before);
      expect(offsets[0]).toBeLessThanOrEqual(after + 1);
      expect(offsets).toEqual(from(offsets[0]!, offsets.at(-1)!));
    }
    stopping.abort();
    await writer;
  });

  test('I2: next() may be called before ready, and again before it has answered', async () => {
    const name = await nameOf(2);
    const subscription = sluice.stream(name).subscribe();
    const iterator = subscription[Symbol.asyncIterator]();
    const calls = Array.from({ length: 5 }, () => iterator.next());
    await subscription.ready;
    await write(name, 3);
    const offsets = (await Promise.all(calls)).map(({ value }) => Number((value as StreamEvent).offset));
    expect(offsets).toEqual(from(1, 5));
    await subscription.close();
  });

  test('I2 I7: a slow consumer falls out of the window, catches up from the database and joins again', async () => {
    await using small = await open({ windowEvents: 10 });
    const name = await nameOf(1);
    const stalled = deferred();
    const slow = new Follower(small.stream(name), {}, stalled.promise);
    const quick = new Follower(small.stream(name));
    await Promise.all([slow.reached(1), quick.reached(1)]);
    for (let n = 0; n < 30; n += 1) await write(name, 50, n % 2 === 0 ? small : elsewhere);
    await quick.reached(1501);
    expect(slow.offsets).toEqual([1]);
    stalled.resolve();
    await slow.reached(1501);
    await write(name, 1, small);
    await write(name, 1);
    await Promise.all([slow.reached(1503), quick.reached(1503)]);
    expect([await slow.close(), await quick.close()]).toEqual([from(1, 1503), from(1, 1503)]);
  });
});

describe('faults', () => {
  test('I2: a connection cut in the middle of a replay costs no event and doubles none', async () => {
    const { proxy, through } = await openProxy();
    using _ = proxy;
    await using cut = await open({
      connectionString: through,
      listenConnectionString: db.connectionString,
      relay: false,
    });
    const name = await nameOf(3500);
    const stalled = deferred();
    const follower = new Follower(cut.stream(name), {}, stalled.promise);
    await follower.reached(1);
    proxy.pauseServerToClient(); // the second page is asked for and does not come
    stalled.resolve();
    await follower.reached(1000);
    const failed = nextMessage<{ where: string }>(
      'sluice:background.failed',
      ({ where }) => where === 'catch-up read',
    );
    proxy.refuse();
    proxy.cut();
    await failed;
    await write(name, 5);
    await proxy.accept();
    proxy.resume();
    await follower.reached(3505);
    await write(name, 5, cut);
    await follower.reached(3510);
    expect(await follower.close()).toEqual(from(1, 3510));
  });

  test('I2 I4: what was notified while the listener was away is caught up with when it is back', async () => {
    const { proxy, through } = await openProxy();
    using _ = proxy;
    await using deaf = await open({ listenConnectionString: through, relay: false });
    const [busy, quiet] = [await nameOf(1), await nameOf(1)];
    const followers = [busy, quiet].map((name) => new Follower(deaf.stream(name)));
    await Promise.all(followers.map((follower) => follower.reached(1)));
    const lost = nextMessage('sluice:listener.lost');
    proxy.refuse();
    proxy.cut();
    await lost;
    for (let n = 0; n < 3; n += 1) await write(busy, 2);
    expect(followers.map(({ offsets }) => offsets)).toEqual([[1], [1]]);
    const connected = nextMessage<{ generation: number }>(
      'sluice:listener.connected',
      ({ generation }) => generation === 2,
    );
    await proxy.accept();
    await connected;
    await followers[0]!.reached(7);
    await write(quiet, 1);
    await followers[1]!.reached(2);
    expect(await Promise.all(followers.map((follower) => follower.close()))).toEqual([from(1, 7), [1, 2]]);
  });

  test('a stream deleted while it is followed ends its subscribers with an error', async () => {
    for (const by of [sluice, elsewhere]) {
      const name = await nameOf(2);
      const stalled = deferred();
      const [live, slow] = [
        new Follower(sluice.stream(name)),
        new Follower(sluice.stream(name), {}, stalled.promise),
      ];
      await Promise.all([live.reached(2), slow.reached(1)]);
      await by.deleteStream(name);
      expect(await live.end()).toMatchObject({ code: 'stream_not_found' });
      stalled.resolve();
      expect(await slow.end()).toMatchObject({ code: 'stream_not_found' });
      expect([live.offsets, slow.offsets]).toEqual([from(1, 2), from(1, 2)]);
    }
  });

  test('a stream that does not exist: ready rejects, next() throws once, and neither has to be awaited', async () => {
    const missing = { code: 'stream_not_found' };
    const subscription = sluice.stream('unknown').subscribe();
    const iterator = subscription[Symbol.asyncIterator]();
    await expect(iterator.next()).rejects.toMatchObject(missing);
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
    await expect(subscription.ready).rejects.toMatchObject(missing);
    await expect(sluice.stream('unknown').subscribe({ after: 'end' }).ready).rejects.toMatchObject(missing);
    sluice.stream('unknown').subscribe(); // an unhandled rejection would fail the run
  });
});

describe('leaving', () => {
  /** Tails over the database and listener of `sluice` that are gone as soon as nobody subscribes. */
  const openTails = (): Tails & Disposable => {
    const { database, listener } = coreOf(sluice);
    const window = { maxEvents: 100, maxBytes: 2 ** 20 };
    const shelf = { maxBytes: 0, keepMs: 1 };
    const tails = new Tails({
      database,
      listener,
      logger: silentLogger,
      window,
      shelf,
      maxReads: 4,
      idleMs: 1,
    });
    return Object.assign(tails, { [Symbol.dispose]: () => void tails.close() });
  };
  const subscribe = (tails: Tails, stream: string, signal?: AbortSignal): EventIterator<unknown> =>
    new EventIterator(tails, { stream, after: { kind: 'start' }, signal, decode: toStreamEvent });
  /** A tail is closed once its last subscriber has left, and not before. */
  const closed = (name: string): Promise<unknown> =>
    nextMessage<{ stream: string }>('sluice:tail.closed', ({ stream }) => stream === name);

  test('I7: a loop that is left, by break or by a throw, leaves no subscriber', async () => {
    const name = await nameOf(3);
    using tails = openTails();
    const broken = closed(name);
    for await (const { offset } of subscribe(tails, name)) if (offset === 2n) break;
    await broken;
    const thrown = closed(name);
    const failing = (async () => {
      for await (const { offset } of subscribe(tails, name)) throw new Error(`at ${offset}`);
    })();
    await expect(failing).rejects.toThrow('at 1');
    await thrown;
  });

  test('I7: close() and an abort end the iteration normally, at any moment, and leave no subscriber', async () => {
    const name = await nameOf(3);
    using tails = openTails();
    const moments = {
      'before it is open': async () => {},
      'before the first event': (iterator: EventIterator<unknown>) => iterator.ready,
      'with events at hand': async (iterator: EventIterator<unknown>) => void (await iterator.next()),
      'while it waits': async (iterator: EventIterator<unknown>) => {
        for (let n = 0; n < 3; n += 1) await iterator.next();
      },
    };
    for (const [moment, come] of Object.entries(moments)) {
      for (const way of ['close', 'abort'] as const) {
        const gone = closed(name);
        const aborting = new AbortController();
        const iterator = subscribe(tails, name, aborting.signal);
        await come(iterator);
        const waiting = moment === 'while it waits' ? iterator.next() : undefined;
        if (way === 'abort') aborting.abort(new Error('told by ready alone'));
        else await Promise.all([iterator.close(), iterator.close()]);
        expect(await waiting).toEqual(waiting && { done: true, value: undefined });
        expect(await iterator.next()).toEqual({ done: true, value: undefined });
        expect(await iterator.return()).toEqual({ done: true, value: undefined });
        if (way === 'abort' && moment === 'before it is open') {
          await expect(iterator.ready).rejects.toThrow('told by ready alone');
        } else {
          await iterator.ready;
        }
        await gone;
      }
    }
  });

  test('I7: an error ends the subscription, and leaves no subscriber', async () => {
    const name = await nameOf(3);
    using tails = openTails();
    const gone = closed(name);
    const iterator = subscribe(tails, name);
    await iterator.next();
    await db.query(
      'update sluice.events e set tag = tag + 1 from sluice.streams s where s.name = $1 and s.id = e.stream_id',
      [name],
    );
    await Promise.all([iterator.next(), iterator.next()]);
    await write(name, 1);
    await expect(iterator.next()).rejects.toMatchObject({ code: 'cursor_reset' });
    await gone;
  });

  test('I7: one who leaves takes nobody with him', async () => {
    const name = await nameOf(1);
    using tails = openTails();
    const [staying, leaving] = [subscribe(tails, name), subscribe(tails, name)];
    await Promise.all([staying.next(), leaving.next()]);
    await leaving.close();
    await write(name, 1);
    expect((await staying.next()).value).toMatchObject({ offset: 2n });
    const gone = closed(name);
    await staying.close();
    await gone;
  });

  test('a signal aborted before the call ends the iteration at once, nothing is opened, and `ready` says why', async () => {
    const signal = AbortSignal.abort();
    const subscription = sluice.stream('unknown').subscribe({ signal });
    await expect(subscription.ready).rejects.toBe(signal.reason);
    expect(await subscription[Symbol.asyncIterator]().next()).toEqual({ done: true, value: undefined });
  });

  test('I7: many subscriptions, of streams and of the bus, and consumers put one listener on a signal they share', async () => {
    const ending = new AbortController();
    const { signal } = ending;
    const stream = sluice.stream(await nameOf(1));
    const many = Array.from({ length: 12 });
    const following = many.map(() => new Follower(stream, { signal }));
    await Promise.all(following.map(({ ready }) => ready));
    for (const _ of many) await sluice.bus.subscribe('shared', { signal });
    const handled = deferred();
    const consuming = many.map(() => stream.group('g').consume(async () => handled.resolve(), { signal }));
    await handled.promise;
    expect(getEventListeners(signal, 'abort')).toHaveLength(1);
    ending.abort();
    await Promise.all([...consuming, ...following.map((each) => each.end())]);
    expect(getEventListeners(signal, 'abort')).toHaveLength(0);
  });

  test('I11: sluice.close() ends every iteration normally, and once more does nothing', async () => {
    const closing = await open();
    const name = await nameOf(1500);
    const stalled = deferred();
    const behind = new Follower(closing.stream(name), {}, stalled.promise);
    const live = new Follower(closing.stream(name), { after: 'end' });
    await Promise.all([behind.reached(1), live.ready]);
    await Promise.all([closing.close(), closing.close()]);
    await closing.close();
    stalled.resolve();
    expect([await behind.end(), await live.end()]).toEqual([undefined, undefined]);
    expect([behind.ended, live.ended]).toEqual([true, true]);
    expect(behind.offsets).toEqual([1]); // nor is the rest of a page given out, which nobody could act upon
    await expect(closing.stream(name).subscribe().ready).rejects.toMatchObject({ code: 'closed' });
    await expect(closing.stream(name).read()).rejects.toMatchObject({ code: 'closed' });
  });
});
