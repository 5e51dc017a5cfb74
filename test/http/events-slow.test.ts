// Guards I7 on the wire: a client that does not read costs its socket buffer and delays nobody, catches up exactly when
// it reads again, and is dropped past its deadline. And that whoever goes away, in whatever manner, is let go of.
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { Sluice } from 'sluice';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { Database } from '../../src/db/database.ts';
import { EventSession } from '../../src/http/session.ts';
import { Listener } from '../../src/listen/listener.ts';
import { Tails } from '../../src/tail/tails.ts';
import { deferred } from '../../src/util/deferred.ts';
import { silentLogger } from '../../src/util/logger.ts';
import { useDatabase } from '../support/database.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { createProxy } from '../support/proxy.ts';
import { anyone, serve, useServing, type Serving } from '../support/serve.ts';
import { openSse, type SseClient } from '../support/sse.ts';
import { upTo } from '../support/up-to.ts';

const db = useDatabase();
let sluice: Sluice;
let serving: Serving;

useServing(db, { fallbackPollMs: 200 }, (started) => ({ sluice, serving } = started));

let names = 0;
const newStream = async (): Promise<string> => {
  const name = `slow ${(names += 1)}`;
  await sluice.createStream(name);
  return name;
};
const big = 'x'.repeat(200_000);
/** More than the kernel's buffers for a connection hold. */
const flood = async (name: string, count = 60): Promise<void> => {
  for (let n = 0; n < count; n += 10)
    await sluice.stream(name).appendMany(upTo(10).map(() => ({ data: big })));
};
const connected = async (
  url: string,
  through = serving,
): Promise<[SseClient, Serving['responses'][number]]> => {
  const client = await openSse(url);
  await client.until(({ frames }) => frames.length >= 3);
  return [client, through.responses.at(-1)!];
};
const closed = (reason: string): Promise<{ connectionId: string }> =>
  nextMessage<{ connectionId: string; reason: string }>(
    'sluice:sse.closed',
    (message) => message.reason === reason,
  );

describe('a client that stops reading', () => {
  test('I7: is given no more than a page, delays nobody, and catches up exactly', async () => {
    const name = await newStream();
    const [stalled, response] = await connected(serving.url(name));
    const [reading] = await connected(serving.url(name));
    stalled.pause();
    await flood(name);
    await reading.received(60); // by then the kernel's buffers have taken what they will
    await until(() => response.socket?.writableNeedDrain === true);
    const held = response.writableLength;
    expect(held).toBeLessThan(6 * 2 ** 20);
    await flood(name);
    await reading.received(120);
    expect(reading.offsets).toEqual(upTo(120));
    expect(response.writableLength).toBe(held); // nothing was taken for it meanwhile
    expect(stalled.events.length).toBeLessThan(120);
    stalled.resume();
    await stalled.received(120);
    expect(stalled.offsets).toEqual(upTo(120));
    await sluice.stream(name).append('live again');
    await stalled.received(121);
    stalled.close();
    reading.close();
  });

  test('I7: is given a step of what is appended in one go, with one stream or several', async () => {
    const [name, other] = [await newStream(), await newStream()];
    const stalled = [
      await connected(serving.url(name)),
      await connected(serving.url(name, `stream=${encodeURIComponent(other)}`)),
    ];
    for (const [client] of stalled) client.pause();
    // The first fills the kernel's buffers, so nothing of the second has left when it is looked at.
    for (let times = 0; times < 2; times += 1) {
      await sluice.stream(name).appendMany(upTo(4000).map((n) => ({ data: `${n} ${big.slice(0, 2000)}` })));
    }
    for (const [client, response] of stalled) {
      expect(response.writableLength).toBeLessThan(2 ** 20);
      client.resume();
      await client.received(8000);
      expect(client.offsets).toEqual(upTo(8000));
      client.close();
    }
  });

  test('I7: is dropped past its deadline, and resumes exactly', async () => {
    await using brisk = await serve(sluice, { limits: { heartbeatMs: 20, drainTimeoutMs: 60 } });
    const name = await newStream();
    const [stalled, response] = await connected(brisk.url(name), brisk);
    stalled.pause();
    const dropped = closed('slow');
    await flood(name);
    await dropped;
    await until(() => response.socket === null || response.socket.destroyed);
    stalled.resume();
    await stalled.ended();
    expect(stalled.over).toBe('cut');
    const got = stalled.offsets;
    using again = await openSse(serving.url(name), { lastEventId: stalled.lastEventId });
    await again.received(60 - got.length);
    expect([...got, ...again.offsets]).toEqual(upTo(60));
  });

  test('I7: cannot hold open a connection that has ended', async () => {
    await using brisk = await serve(sluice, { limits: { drainTimeoutMs: 50 } });
    const name = await newStream();
    const [stalled, response] = await connected(brisk.url(name), brisk);
    stalled.pause();
    await flood(name);
    await until(() => response.socket?.writableNeedDrain === true);
    await sluice.deleteStream(name);
    await until(() => response.destroyed);
    stalled.close();
  });
});

describe('a peer that is gone', () => {
  test('behind a black hole is dropped once its buffers are full', async () => {
    await using brisk = await serve(sluice, { limits: { heartbeatMs: 20, drainTimeoutMs: 60 } });
    using proxy = await createProxy({ targetPort: brisk.port });
    const name = await newStream();
    const [client] = await connected(brisk.url(name, '', proxy.port), brisk);
    proxy.pause();
    const dropped = closed('slow');
    await flood(name);
    await dropped;
    client.close();
  });

  test.each<[string, (client: SseClient) => void]>([
    ['closes', (client) => client.close()],
    ['resets', (client) => client.socket.resetAndDestroy()],
    ['half-closes', (client) => client.socket.end()],
  ])('that %s is noticed', async (_, leave) => {
    const name = await newStream();
    const [client, response] = await connected(serving.url(name));
    const [open] = client.control('open') as [{ connectionId: string }];
    const left = closed('client');
    leave(client);
    expect((await left).connectionId).toBe(open.connectionId);
    await until(() => response.destroyed);
  });

  test('while the hook is still asked opens nothing that stays', async () => {
    const asked = deferred();
    const answer = deferred();
    await using guarded = await serve(sluice, {
      authorize: async (request, ...rest) => {
        asked.resolve();
        await answer.promise;
        return anyone(request, ...rest);
      },
    });
    const aborting = new AbortController();
    const fetching = fetch(guarded.url(await newStream()), { signal: aborting.signal });
    await asked.promise;
    aborting.abort();
    await expect(fetching).rejects.toThrow('abort');
    await until(() => guarded.handler.stats().refused['499'] === 1);
    const told: unknown[] = [];
    const hear = (message: unknown): void => void told.push(message);
    subscribe('sluice:sse.closed', hear);
    answer.resolve();
    await fetch(guarded.url('unknown')).then(async (response) => response.text()); // whatever was to follow has followed
    unsubscribe('sluice:sse.closed', hear);
    expect([told.length, guarded.handler.stats().opened]).toEqual([1, 0]); // of the one for the unknown stream
  });
});

test('I2: a type that could forge a frame is left out of it, and costs nobody an event', async () => {
  const name = await newStream();
  const clients = await Promise.all(
    ['format=data', 'format=envelope', 'format=data', 'format=envelope'].map((query) =>
      openSse(serving.url(name, query)),
    ),
  );
  await Promise.all(clients.map((client) => client.until(({ frames }) => frames.length >= 3)));
  // Only the owner of the tables can write such a type.
  await db.query(
    `insert into sluice.events (stream_id, "offset", at, tag, size, type, data)
     select id, 1, clock_timestamp(), 7, 1, e'a\\nid: 9', '1' from sluice.streams where name = $1`,
    [name],
  );
  await sluice.stream(name).append(2);
  await sluice.stream(name).append(3);
  const [bare, whole, alsoBare, alsoWhole] = clients as [SseClient, SseClient, SseClient, SseClient];
  await Promise.all([whole, alsoWhole, bare, alsoBare].map((client) => client.received(3)));
  expect([whole.offsets, alsoWhole.offsets]).toEqual([upTo(3), upTo(3)]);
  for (const { events } of [bare, alsoBare]) {
    expect(events.map(({ event, data }) => [event, data])).toEqual([
      [undefined, '1'],
      [undefined, '2'],
      [undefined, '3'],
    ]);
  }
  for (const client of clients) client.close();
});

describe('a session that ends too early leaves no subscriber behind', () => {
  let tails: Tails;
  let name: string;

  beforeAll(async () => {
    const database = new Database({
      connectionString: db.connectionString,
      pool: undefined,
      schema: 'sluice',
      prepare: () => true,
      logger: silentLogger,
    });
    const listener = new Listener({
      connectionString: db.connectionString,
      logger: silentLogger,
      heartbeatMs: 1000,
      deadlineMs: 2000,
      idleSessionTimeoutMs: 10_000,
      send: () => Promise.resolve(false),
    });
    await listener.open();
    const window = { maxEvents: 10, maxBytes: 1e6 };
    const shelf = { maxBytes: 0, keepMs: 1 };
    // A tail closes as soon as its last subscriber has left.
    tails = new Tails({ database, listener, logger: silentLogger, window, shelf, maxReads: 4, idleMs: 1 });
    return async () => {
      await tails.close();
      await listener.close();
      await database.close();
    };
  });
  beforeEach(async () => {
    name = await newStream();
  });

  const make = (): EventSession =>
    new EventSession({
      streams: [name],
      format: 'data',
      retryMs: 1,
      drainTimeoutMs: 1000,
      filter: (batch) => batch,
      viewer: {},
      logger: silentLogger,
    });
  const start = async (offset: bigint): Promise<EventSession> => {
    const session = make();
    await session.subscribe(tails, new Map([[name, { kind: 'offset', offset }]]));
    session.start(() => ({ write: () => true, end: () => {}, destroy: () => {} }));
    return session;
  };
  const tailClosed = (): Promise<unknown> =>
    nextMessage<{ stream: string }>('sluice:tail.closed', ({ stream }) => stream === name);

  test('I7: while it subscribes', async () => {
    const session = make();
    const closed = tailClosed();
    const subscribing = session.subscribe(tails, new Map());
    session.end('client');
    await subscribing;
    await closed;
  });

  test('I7: while it restarts after a loss', async () => {
    const staying = await start(0n); // keeps the tail, so that the others meet it
    const leaving = await Promise.all([start(9n), start(9n), start(9n)]);
    for (const session of leaving) session.end('client');
    // Served after those restarts' reads, as they were asked before it.
    await start(9n).then((session) => session.end('client'));
    const closed = tailClosed();
    staying.end('client');
    await closed;
  });
});
