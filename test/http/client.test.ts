// Guards the client (sluice/client) over real sockets, with Node's fetch: I2 across whatever cuts a connection, I8 for
// what is gone, and what it makes of every answer a server may give. Faults are the proxy's or the server's own.
import { connect, type Sluice } from 'sluice';
import { createClient, type Client, type ClientOptions } from 'sluice/client';
import { createHandler } from 'sluice/http';
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';
import { harm } from '../support/faults.ts';
import { createProxy, type Proxy } from '../support/proxy.ts';
import { randomFrom } from '../support/seed.ts';
import { anyone, serve, serveHandler, type Serving } from '../support/serve.ts';
import { collect } from '../support/stream-reader.ts';
import { upTo } from '../support/up-to.ts';

const db = useDatabase();
let sluice: Sluice;
let serving: Serving;
let proxy: Proxy;
let name: string;
let names = 0;

beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString, fallbackPollMs: 100, windowEvents: 100 });
  serving = await serve(sluice, { limits: { retryMs: 20 } });
  proxy = await createProxy({ targetPort: serving.port });
});
afterAll(async () => {
  proxy.close();
  await serving[Symbol.asyncDispose]();
  await sluice.close();
});
beforeEach(() => {
  name = `client ${(names += 1)}`;
});

const append = (count: number, stream = name): Promise<unknown> =>
  sluice.stream(stream).appendMany(upTo(count).map((data) => ({ data })));

/** A client of the proxy that comes back soon, closed after the test. */
const open = (options: Partial<ClientOptions> = {}): Client => {
  const client = createClient({
    url: `http://127.0.0.1:${proxy.port}/v1/events`,
    backoff: { initialMs: 10, maxMs: 100 },
    ...options,
  });
  onTestFinished(() => client.close());
  return client;
};

/** By the server's account: Node's fetch opens an idle socket for each that it drops. */
const noneIsOpen = (): boolean => serving.responses.every(({ closed }) => closed);

describe('a subscription', () => {
  test('I2: replays, then goes on live, with all there is to know of an event', async () => {
    await sluice.stream(name).append({ n: 1 }, { type: 'made', key: 'k' });
    const client = open();
    const subscription = client.subscribe(name, { after: 'start' });
    const reader = collect(subscription);
    await subscription.ready;
    await reader.received(1);
    await sluice.stream(name).append('two');
    await reader.received(2);
    const { events } = await sluice.stream(name).read();
    expect(reader.items).toEqual([
      {
        kind: 'event',
        stream: name,
        offset: 1n,
        cursor: events[0]!.cursor,
        type: 'made',
        key: 'k',
        data: { n: 1 },
        at: events[0]!.at,
      },
      {
        kind: 'event',
        stream: name,
        offset: 2n,
        cursor: events[1]!.cursor,
        type: null,
        key: null,
        data: 'two',
        at: events[1]!.at,
      },
    ]);
    expect(subscription.cursor).toBe(events[1]!.cursor);
    expect(client.status.get()).toMatchObject({
      state: 'live',
      problem: null,
      connections: [{ streams: [name] }],
    });
  });

  test('starts at the end by default, fixed when it is ready', async () => {
    await append(3);
    const subscription = open().subscribe(name);
    const reader = collect(subscription);
    await subscription.ready;
    await append(2);
    await reader.received(2);
    expect(reader.offsets).toEqual([4, 5]);
  });

  test.each([
    ['an offset', 2n, [3]],
    ['an offset as text', '1', [2, 3]],
    ['a cursor', 'cursor', [3]],
  ])('starts after %s', async (_, after, wanted) => {
    await append(3);
    const { events } = await sluice.stream(name).read();
    const reader = collect(open().subscribe(name, { after: after === 'cursor' ? events[1]!.cursor : after }));
    await reader.received(wanted.length);
    expect(reader.offsets).toEqual(wanted);
  });

  test('ends when the loop is left, the signal aborts or the client closes, and with it the connection', async () => {
    await append(3);
    const client = open();
    for await (const item of client.subscribe(name, { after: 'start' }))
      if (item.kind === 'event' && item.offset === 2n) break;
    await until(noneIsOpen);
    const controller = new AbortController();
    const aborted = client.subscribe(name, { after: 'start', signal: controller.signal });
    const reader = collect(aborted);
    await reader.received(3);
    controller.abort(new Error('enough'));
    await until(() => reader.over === 'end' && noneIsOpen());
    const early = client.subscribe(name, { signal: controller.signal });
    await expect(early.ready).rejects.toThrow('enough');
    const live = client.subscribe(name);
    const last = collect(live);
    await live.ready;
    await client.close();
    await until(() => last.over === 'end' && noneIsOpen());
    expect(client.status.get().state).toBe('closed');
    await expect(client.subscribe(name).ready).rejects.toMatchObject({ code: 'closed' });
  });

  test('refuses what cannot be asked for', () => {
    const client = open();
    expect(() => client.subscribe([])).toThrow(RangeError);
    expect(() => client.subscribe(upTo(21).map(String))).toThrow('21 streams');
    expect(() => client.subscribe(name, { after: 'yesterday' })).toThrow(
      expect.objectContaining({ code: 'cursor_invalid' }),
    );
    expect(() => open({ watchdogMs: Number.NaN })).toThrow(RangeError);
  });
});

describe('one connection', () => {
  test('I2: subscriptions to one stream share it, wherever they start', async () => {
    await append(10);
    const client = open();
    const readers = (['start', 4n, 'end', 'start'] as const).map((after) =>
      collect(client.subscribe(name, { after })),
    );
    await readers[0]!.received(10);
    await until(() => client.status.get().connections.length === 1 && client.status.get().state === 'live');
    const late = collect(client.subscribe(name, { after: 7n }));
    const end = client.subscribe(name);
    const last = collect(end);
    await end.ready;
    await append(2);
    await last.received(2);
    await late.received(5);
    await readers[2]!.received(2);
    await until(() => client.status.get().connections.length === 1);
    await append(1);
    await Promise.all([
      ...readers.map((reader, index) => reader.received([13, 9, 3, 13][index]!)),
      late.received(6),
      last.received(3),
    ]);
    expect(readers.map(({ offsets }) => offsets)).toEqual([
      upTo(13),
      upTo(13).slice(4),
      [11, 12, 13],
      upTo(13),
    ]);
    expect([late.offsets, last.offsets]).toEqual([upTo(13).slice(7), [11, 12, 13]]);
  });

  test('I7: one that does not take what comes delays nobody, and misses nothing', async () => {
    const client = open();
    await sluice.createStream(name);
    const slow = client.subscribe(name, { after: 'start' });
    const fast = collect(client.subscribe(name, { after: 'start' }));
    for (let round = 0; round < 5; round += 1) await append(1000);
    await fast.received(5000);
    expect(fast.offsets).toEqual(upTo(5000));
    const reader = collect(slow);
    await reader.received(5000);
    expect(reader.offsets).toEqual(upTo(5000));
    await until(() => client.status.get().connections.length === 1);
  });
});

describe('whatever cuts the connection', () => {
  test.each([1, 2])('I2: faults and writes at random, seed %i', async (seed) => {
    const random = randomFrom(seed);
    await append(150);
    const clients = upTo(8).map(() => open());
    const starts = ['start', 0n, 100n, 149n, 'end', 'end', 'start', 'end'] as const;
    const firsts = [1, 1, 101, 150, 151, 151, 1, 151];
    const subscriptions = clients.map((client, index) => client.subscribe(name, { after: starts[index] }));
    const readers = subscriptions.map(collect);
    await Promise.all(subscriptions.map(({ ready }) => ready));
    let written = 150;
    for (let round = 0; round < 30; round += 1) {
      const size = 1 + random.below(random.chance(0.2) ? 120 : 5);
      const accepted = proxy.accepted;
      const writing = append(size);
      written += size;
      harm(proxy, random);
      await writing;
      if (random.chance(0.25)) await until(() => proxy.accepted > accepted || proxy.connections >= 8);
    }
    proxy.delay(0);
    for (const [index, reader] of readers.entries()) {
      const wanted = upTo(written).slice(firsts[index]! - 1);
      await reader.received(wanted.length);
      expect(reader.offsets, `reader ${index}`).toEqual(wanted);
    }
  });

  test('I2, I11: the server goes away and another comes', async () => {
    const first = await serve(sluice, { limits: { retryMs: 20 } });
    const { port } = first;
    await append(3);
    const client = open({ url: first.origin });
    const reader = collect(client.subscribe(name, { after: 'start' }));
    const states: string[] = [];
    client.status.subscribe(() => states.push(client.status.get().state));
    await reader.received(3);
    await first[Symbol.asyncDispose]();
    await append(3);
    await until(() => states.includes('waiting'));
    await using second = await serveHandler(createHandler(sluice, { authorize: anyone }), port);
    await append(1);
    await reader.received(7);
    expect(reader.offsets).toEqual(upTo(7));
    expect(second.responses.length).toBeGreaterThan(0);
    await client.close();
  });

  test('I2: a black hole is noticed by the watchdog', async () => {
    await using beating = await serve(sluice, { limits: { retryMs: 20, heartbeatMs: 20 } });
    using hole = await createProxy({ targetPort: beating.port });
    await append(1);
    const client = open({ url: `http://127.0.0.1:${hole.port}`, watchdogMs: 400 });
    const reader = collect(client.subscribe(name, { after: 'start' }));
    await reader.received(1);
    const { accepted } = hole;
    hole.pause();
    await append(1);
    await until(() => hole.accepted > accepted);
    hole.resume();
    await reader.received(2);
    expect(reader.offsets).toEqual([1, 2]);
    await client.close();
  });
});

describe('history that is gone', () => {
  test('I8: a gap says so once, and delivery goes on from the oldest', async () => {
    await append(10);
    const client = open();
    const reader = collect(client.subscribe(name, { after: 2n }));
    await reader.received(8);
    proxy.refuse();
    proxy.cut();
    await append(5);
    await sluice.stream(name).trim({ before: 13n });
    await proxy.accept();
    await reader.received(11);
    expect(reader.offsets).toEqual([3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15]);
    const losses = reader.items.filter(({ kind }) => kind !== 'event');
    expect(losses).toMatchObject([
      { kind: 'gap', stream: name, reason: 'trimmed', requested: 10n, oldest: 13n, head: 15n },
    ]);
  });

  test('I8: a stream deleted and created again is waited for, then a reset tells of it', async () => {
    await append(3);
    const client = open({ refusedRetryMs: 20 });
    const reader = collect(client.subscribe(name, { after: 'start' }));
    await reader.received(3);
    await sluice.deleteStream(name);
    await until(() => client.status.get().state === 'refused');
    expect(client.status.get().problem).toMatchObject({ status: 404, code: 'stream_not_found' });
    await append(2);
    await reader.received(5);
    expect(reader.offsets).toEqual([1, 2, 3, 1, 2]);
    expect(reader.items[3]).toMatchObject({ kind: 'reset', reason: 'recreated', requested: 3n, oldest: 1n });
  });
});

describe('what a server refuses', () => {
  test('a token that expires: headers are asked for before each attempt, and once more when refused', async () => {
    const tokens = new Map<string, Date>();
    const issue = (ms: number): string => {
      const token = `token ${tokens.size}`;
      tokens.set(token, new Date(performance.timeOrigin + performance.now() + ms));
      return token;
    };
    await using guarded = await serve(sluice, {
      limits: { retryMs: 10 },
      authorize: async (request) => {
        const expiresAt = tokens.get(request.headers.get('authorization') ?? '');
        return expiresAt ? { principal: 'ann', expiresAt } : new Response(null, { status: 401 });
      },
    });
    await sluice.createStream(name);
    let token = issue(80);
    const refusals: number[] = [];
    const client = open({
      url: guarded.origin,
      refusedRetryMs: 20, // on a slow machine a token may be stale when it arrives
      headers: ({ refused }) => {
        if (refused) {
          refusals.push(refused.status);
          token = issue(refusals.length > 2 ? 60_000 : 80);
        }
        return { authorization: token };
      },
    });
    const reader = collect(client.subscribe(name, { after: 'start' }));
    let written = 0;
    await until(async () => {
      await append(1);
      written += 1;
      return refusals.length > 2;
    });
    await reader.received(written);
    expect(reader.offsets).toEqual(upTo(written));
    expect(new Set(refusals)).toEqual(new Set([401]));
    await client.close();
  });

  test('401 and 403 show in the status, are asked again slowly, and end when they end', async () => {
    let status = 403;
    let asked = 0;
    await using guarded = await serve(sluice, {
      authorize: async () => {
        asked += 1;
        return status === 200 ? { principal: null } : new Response('no', { status });
      },
    });
    await append(1);
    const client = open({ url: guarded.origin, refusedRetryMs: 50 });
    const reader = collect(client.subscribe(name, { after: 'start' }));
    await until(() => client.status.get().state === 'refused' && asked > 2);
    expect(client.status.get().problem).toMatchObject({ status: 403 });
    status = 200;
    await reader.received(1);
    expect(client.status.get()).toMatchObject({ state: 'live', problem: null });
    await client.close();
  });

  test('what is wrong for good is thrown', async () => {
    const client = open();
    const reader = collect(client.subscribe('bad\nname'));
    await until(() => reader.over !== undefined);
    expect(reader.over).toMatchObject({ code: 'name_invalid' });
    const elsewhere = collect(
      open({ fetch: async () => new Response('?', { status: 405 }) }).subscribe(name),
    );
    await until(() => elsewhere.over !== undefined);
    expect(elsewhere.over).toBeInstanceOf(TypeError);
  });

  test('503 with Retry-After, and pages that are no event stream, are passing', async () => {
    await append(1);
    const answers = [
      new Response('busy', { status: 503, headers: { 'retry-after': '1' } }),
      new Response('<html>', { headers: { 'content-type': 'text/html' } }),
    ];
    const client = open({ fetch: async (url, init) => answers.shift() ?? fetch(url, init) });
    const seen: unknown[] = [];
    client.status.subscribe(() => seen.push(client.status.get().problem?.status));
    const reader = collect(client.subscribe(name, { after: 'start' }));
    await reader.received(1);
    expect(seen).toEqual(expect.arrayContaining([503, 200]));
  });
});
