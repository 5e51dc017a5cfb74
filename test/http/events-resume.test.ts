// Guards I2 across reconnects: whatever cuts a connection, a client that comes back with its last id has every event
// once, in order. Faults and writes are drawn from a seed; clients are stock EventSource and the raw one.
import { EventSource } from 'eventsource';
import { connect, type Sluice } from 'sluice';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';
import { harm } from '../support/faults.ts';
import { createProxy, type Proxy } from '../support/proxy.ts';
import { randomFrom } from '../support/seed.ts';
import { anyone, serve, type Serving } from '../support/serve.ts';
import { openSse, ResumingSse } from '../support/sse.ts';
import { upTo } from '../support/up-to.ts';

const db = useDatabase();
let sluice: Sluice;
let serving: Serving;
let proxy: Proxy;

beforeAll(async () => {
  // A small window, so that some come back into it and some do not.
  sluice = await connect({ connectionString: db.connectionString, fallbackPollMs: 100, windowEvents: 100 });
  serving = await serve(sluice, { limits: { retryMs: 20 } });
  proxy = await createProxy({ targetPort: serving.port });
});
afterAll(async () => {
  proxy.close();
  await serving[Symbol.asyncDispose]();
  await sluice.close();
});

describe('before the first event', () => {
  test.each([
    ['the end by default', '', 3n],
    ['after=end', 'after=end', 3n],
    ['after=start', 'after=start', 0n],
  ])(
    'I2: a connection that begins at %s and is lost at once resumes where it began',
    async (_, query, at) => {
      const name = `first ${query}`;
      await sluice.stream(name).appendMany([{ data: 1 }, { data: 2 }, { data: 3 }]);
      const lost = await openSse(serving.url(name, query));
      await lost.opened();
      lost.close();
      const start = upTo(3).slice(Number(at));
      await sluice.stream(name).append(4);
      // With the id of the opening, as if no event had arrived.
      using client = await openSse(serving.url(name, query), { lastEventId: lost.frames[2]?.id });
      await client.received(start.length + 1);
      expect(client.offsets).toEqual([...start, 4]);
    },
  );

  test('I2: of an empty stream', async () => {
    await sluice.createStream('empty');
    const lost = await openSse(serving.url('empty'));
    await lost.opened();
    lost.close();
    await sluice.stream('empty').append(1);
    using client = await openSse(serving.url('empty'), { lastEventId: lost.lastEventId });
    await client.received(1);
    expect(client.offsets).toEqual([1]);
  });
});

interface Reader {
  /** Whether it can come back without a loss: it has an id, or begins at a fixed place. */
  standing(): boolean;
  offsets(): number[];
  close(): void;
}

const stock = (url: string): Reader => {
  const source = new EventSource(url);
  const seen: number[] = [];
  const onMessage = ({ data }: { data: string }): void =>
    void seen.push(Number((JSON.parse(data) as { offset: string }).offset));
  source.addEventListener('message', onMessage);
  return { standing: () => seen.length > 0, offsets: () => seen, close: () => source.close() };
};
const raw = (url: string): Reader => {
  const client = new ResumingSse(url);
  return {
    standing: () => client.lastEventId !== '',
    offsets: () =>
      client.events.map(({ data = '' }) => Number((JSON.parse(data) as { offset: string }).offset)),
    close: () => client.close(),
  };
};

test.each([1, 2])('I2: a dozen clients, faults and writes at random, seed %i', async (seed) => {
  const random = randomFrom(seed);
  const name = `storm ${seed}`;
  await sluice.stream(name).appendMany(upTo(150).map((data) => ({ data })));
  const url = (query: string): string => serving.url(name, query, proxy.port);
  // Stock clients begin at a fixed place: this one ignores ids of frames without data, so one lost before its first
  // event begins anew. Raw ones begin at the end, as a browser's default.
  const readers = [
    ...['after=start', 'after=0', 'after=100', 'after=149', 'after=120', 'after=start'].map((query) =>
      stock(url(query)),
    ),
    ...['', 'after=end', 'after=start', 'after=100', '', 'after=end'].map((query) => raw(url(query))),
  ];
  const firsts = [1, 1, 101, 150, 121, 1, 151, 151, 1, 101, 151, 151];
  await until(() => readers.every((reader) => reader.standing()));
  let written = 150;
  for (let round = 0; round < 30; round += 1) {
    const size = 1 + random.below(random.chance(0.2) ? 120 : 5);
    const events = upTo(size).map((n) => ({ data: written + n }));
    const accepted = proxy.accepted;
    const writing = random.chance(0.5)
      ? sluice.stream(name).appendMany(events)
      : sluice.stream(name).publishMany(events);
    written += size;
    harm(proxy, random);
    await writing;
    if (random.chance(0.25)) await until(() => proxy.accepted > accepted || proxy.connections >= 12);
  }
  proxy.delay(0);
  for (const [index, reader] of readers.entries()) {
    const wanted = upTo(written).slice((firsts[index] ?? 1) - 1);
    await until(() => reader.offsets().length >= wanted.length).catch(() => {});
    expect(reader.offsets(), `reader ${index}`).toEqual(wanted);
    reader.close();
  }
  await until(() => proxy.connections === 0);
});

test('a grant that expires on a live connection ends it, and the client comes back for another', async () => {
  let asked = 0;
  await using serving = await serve(sluice, {
    limits: { retryMs: 10 },
    authorize: async (request, ...rest) => {
      asked += 1;
      const granted = await anyone(request, ...rest);
      if (granted instanceof Response || asked > 3) return granted;
      return { ...granted, expiresAt: new Date(performance.timeOrigin + performance.now() + 60) };
    },
  });
  await sluice.createStream('expiring');
  using reader = new ResumingSse(serving.url('expiring', 'after=start'));
  let written = 0;
  await until(async () => {
    await sluice.stream('expiring').append((written += 1));
    return asked > 3;
  });
  await until(() => reader.events.length >= written);
  const offsets = reader.events.map(({ data = '' }) =>
    Number((JSON.parse(data) as { offset: string }).offset),
  );
  expect(offsets).toEqual(upTo(written));
});
