// Guards several streams through one client: one connection for all that fit, each stream complete and without a
// duplicate (I2) while others come, go, are refused, deleted or slow.
import { connect, type Sluice } from 'sluice';
import { createClient, type Client, type ClientOptions } from 'sluice/client';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';
import { createProxy, type Proxy } from '../support/proxy.ts';
import { randomFrom } from '../support/seed.ts';
import { serve, type Serving } from '../support/serve.ts';
import { collect, type Reader } from '../support/stream-reader.ts';
import { upTo } from '../support/up-to.ts';

const db = useDatabase();
let sluice: Sluice;
let serving: Serving;
let proxy: Proxy;
/** Streams that nobody may read. */
const forbidden = new Set<string>();

beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString, fallbackPollMs: 100, windowEvents: 100 });
  serving = await serve(sluice, {
    limits: { retryMs: 20 },
    authorize: async (_, streams) =>
      streams.some((stream) => forbidden.has(stream))
        ? new Response(null, { status: 403 })
        : { principal: null },
  });
  proxy = await createProxy({ targetPort: serving.port });
});
afterAll(async () => {
  proxy.close();
  await serving[Symbol.asyncDispose]();
  await sluice.close();
});

const append = (stream: string, count: number): Promise<unknown> =>
  sluice.stream(stream).appendMany(upTo(count).map((data) => ({ data })));
const open = (options: Partial<ClientOptions> = {}): Client => {
  const client = createClient({
    url: `http://127.0.0.1:${proxy.port}`,
    backoff: { initialMs: 10, maxMs: 100 },
    refusedRetryMs: 30,
    ...options,
  });
  onTestFinished(() => client.close());
  return client;
};
const shape = (client: Client): [string, number][] =>
  client.status.get().connections.map(({ state, streams }) => [state, streams.length]);
const isOne = (client: Client, streams: number): boolean =>
  JSON.stringify(shape(client)) === JSON.stringify([['live', streams]]);

test('I2: one connection for all, wherever each starts and whenever it is added', async () => {
  const names = ['a1', 'a2', 'a3', 'a4'];
  await Promise.all(names.map((name) => append(name, 5)));
  const client = open();
  const first = collect(client.subscribe(['a1', 'a2'], { after: 'start' }));
  const second = collect(client.subscribe('a3', { after: 2n }));
  await first.received(10);
  await second.received(3);
  const late = client.subscribe(['a2', 'a4']);
  const third = collect(late);
  await late.ready;
  await until(() => isOne(client, 4));
  await Promise.all(names.map((name) => append(name, 2)));
  await Promise.all([first.received(14), second.received(5), third.received(4)]);
  expect([first.of('a1'), first.of('a2'), second.of('a3')]).toEqual([upTo(7), upTo(7), [3, 4, 5, 6, 7]]);
  expect([third.of('a2'), third.of('a4')]).toEqual([
    [6, 7],
    [6, 7],
  ]);
  expect(isOne(client, 4)).toBe(true);
});

test('I2: a cursor of several streams resumes all of them, also beside others of the same', async () => {
  await Promise.all(['b1', 'b2'].map((name) => append(name, 3)));
  const client = open();
  const reader = collect(client.subscribe(['b1', 'b2'], { after: 'start' }));
  await reader.received(6);
  const { cursor = '' } = reader.items.flatMap((item) => (item.kind === 'event' ? [item] : []))[3] ?? {};
  const seen = reader.items.slice(0, 4).flatMap((item) => (item.kind === 'event' ? [item.stream] : []));
  const rest = (stream: string): number[] => upTo(4).slice(seen.filter((each) => each === stream).length);
  const again = collect(client.subscribe(['b1', 'b2'], { after: cursor }));
  const other = collect(open().subscribe(['b1', 'b2'], { after: cursor }));
  const alone = collect(client.subscribe('b2', { after: cursor }));
  await Promise.all(['b1', 'b2'].map((name) => append(name, 1)));
  await Promise.all([again.received(4), other.received(4), alone.received(rest('b2').length)]);
  for (const each of [again, other]) expect([each.of('b1'), each.of('b2')]).toEqual([rest('b1'), rest('b2')]);
  expect(alone.of('b2')).toEqual(rest('b2'));
  await until(() => isOne(client, 2));
});

test('I2: a page resumes from its watermark, streams that did not exist then included', async () => {
  await append('w1', 2);
  await sluice.createStream('w3');
  const after = await sluice.watermark(['w1', 'w2']);
  await append('w1', 1);
  const client = open();
  const ended = client.subscribe('w3');
  const readers = [client.subscribe(['w1', 'w2'], { after }), client.subscribe('w2', { after }), ended].map(
    collect,
  );
  await until(() => client.status.get().state === 'refused');
  await append('w2', 2);
  await ended.ready;
  await append('w3', 1);
  await Promise.all([readers[0]!.received(3), readers[1]!.received(2), readers[2]!.received(1)]);
  expect([readers[0]!.of('w1'), readers[0]!.of('w2'), readers[1]!.offsets, readers[2]!.offsets]).toEqual([
    [3],
    [1, 2],
    [1, 2],
    [1],
  ]);
  await until(() => isOne(client, 3));
});

test('more than 20 streams take more connections, and come together again when there are less', async () => {
  const names = upTo(45).map((n) => `c${n}`);
  await Promise.all(names.map((name) => append(name, 1)));
  const client = open();
  const controller = new AbortController();
  const readers = names.map((name, index) =>
    collect(client.subscribe(name, { after: 'start', ...(index >= 10 && { signal: controller.signal }) })),
  );
  await Promise.all(readers.map((reader) => reader.received(1)));
  await until(() => shape(client).every(([state]) => state === 'live'));
  expect(shape(client).map(([, streams]) => streams)).toEqual([20, 20, 5]);
  controller.abort();
  await until(() => isOne(client, 10));
});

describe('a stream that is refused', () => {
  test('does not silence the others, and joins them when it is not any more', async () => {
    const names = ['d1', 'd2', 'd3', 'd4', 'd5'];
    await Promise.all(names.map((name) => append(name, 1)));
    forbidden.add('d3');
    const client = open();
    const readers = names.map((name) => collect(client.subscribe(name, { after: 'start' })));
    await Promise.all(readers.filter((_, index) => index !== 2).map((reader) => reader.received(1)));
    await until(() => client.status.get().state === 'refused');
    forbidden.clear();
    await readers[2]!.received(1);
    await until(() => isOne(client, 5));
    await Promise.all(names.map((name) => append(name, 1)));
    await Promise.all(readers.map((reader) => reader.received(2)));
    expect(readers.map(({ offsets }) => offsets)).toEqual(names.map(() => [1, 2]));
  });

  test('leaves its neighbours without a cursor until it begins, and the next one says all', async () => {
    await Promise.all(['h1', 'h2'].map((name) => append(name, 1)));
    forbidden.add('h2');
    const subscription = open().subscribe(['h1', 'h2'], { after: 'start' });
    const reader = collect(subscription);
    await reader.received(1);
    expect([reader.of('h1'), subscription.cursor]).toEqual([[1], undefined]);
    forbidden.clear();
    await subscription.ready;
    await reader.received(2);
    await append('h1', 1);
    await reader.received(3);
    const heads = await Promise.all(
      ['h1', 'h2'].map(async (name) => (await sluice.stream(name).read({ after: 'end' })).cursor),
    );
    const cursors = reader.items.map((item) => (item.kind === 'event' ? item.cursor : 'other'));
    expect([cursors[0], cursors[2]]).toEqual([undefined, heads.join('.')]);
    expect(cursors[1]?.split('.')[1]).toBe(heads[1]);
    expect(subscription.cursor).toBe(heads.join('.'));
  });

  test('for its name throws, and the others go on', async () => {
    await append('e1', 1);
    const client = open();
    const good = collect(client.subscribe('e1', { after: 'start' }));
    const bad = collect(client.subscribe('e2\n', { after: 'start' }));
    await until(() => bad.over !== undefined);
    expect(bad.over).toMatchObject({ code: 'name_invalid' });
    await good.received(1);
    await until(() => isOne(client, 1));
  });

  test('I8: deleted, it leaves the others alone; made again, it says so', async () => {
    await Promise.all(['f1', 'f2', 'f3'].map((name) => append(name, 2)));
    const client = open();
    const readers = ['f1', 'f2', 'f3'].map((name) => collect(client.subscribe(name, { after: 'start' })));
    await Promise.all(readers.map((reader) => reader.received(2)));
    await sluice.deleteStream('f2');
    await until(() => client.status.get().state === 'refused');
    await Promise.all(['f1', 'f3'].map((name) => append(name, 1)));
    await Promise.all([readers[0]!.received(3), readers[2]!.received(3)]);
    await append('f2', 1);
    await readers[1]!.received(3);
    expect(readers.map(({ offsets }) => offsets)).toEqual([upTo(3), [1, 2, 1], upTo(3)]);
    expect(readers[1]!.items[2]).toMatchObject({ kind: 'reset', stream: 'f2', reason: 'recreated' });
    expect(readers.map(({ items }) => items.filter(({ kind }) => kind === 'reset').length)).toEqual([
      0, 1, 0,
    ]);
    await until(() => isOne(client, 3));
  });
});

test.each([1, 2, 3])('I2: subscriptions come and go under faults and writes, seed %i', async (seed) => {
  const random = randomFrom(seed);
  const names = upTo(6).map((n) => `g${seed} ${n}`);
  const written = new Map(names.map((name) => [name, 0]));
  const write = async (name: string, count: number): Promise<void> => {
    written.set(name, written.get(name)! + count);
    await append(name, count);
  };
  for (const name of names) await write(name, 20);
  const client = open();
  const alive: { streams: string[]; firsts: number[]; reader: Reader; end: () => void }[] = [];
  for (let round = 0; round < 40; round += 1) {
    if (random.chance(0.4)) {
      const streams = names.filter(() => random.chance(0.4));
      const offset = BigInt(random.below(20));
      const controller = new AbortController();
      if (streams.length > 0) {
        const after = random.chance(0.3) ? 'start' : offset;
        const reader = collect(client.subscribe(streams, { after, signal: controller.signal }));
        const first = after === 'start' ? 1 : Number(offset) + 1;
        alive.push({ streams, firsts: streams.map(() => first), reader, end: () => controller.abort() });
      }
    }
    if (random.chance(0.15) && alive.length > 1) alive.splice(random.below(alive.length), 1)[0]!.end();
    const writing = write(names[random.below(names.length)]!, 1 + random.below(random.chance(0.1) ? 200 : 4));
    random.pick([() => proxy.cut(), () => proxy.halfClose('client'), () => {}, () => {}, () => {}])();
    await writing;
    if (random.chance(0.3)) await until(() => client.status.get().state === 'live');
  }
  for (const { streams, firsts, reader } of alive) {
    const wanted = streams.map((stream, index) => upTo(written.get(stream)!).slice(firsts[index]! - 1));
    await until(() => streams.every((stream, index) => reader.of(stream).length >= wanted[index]!.length));
    expect(streams.map((stream) => reader.of(stream))).toEqual(wanted);
    expect(reader.items.every(({ kind }) => kind === 'event')).toBe(true);
  }
  await until(() => alive.length === 0 || shape(client).length === 1);
});
