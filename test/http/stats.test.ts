// Guards the figures of a handler: they say what happened, come down again, never go below nothing, and nothing is kept
// of a stream that nobody reads any more (I7).
import * as fc from 'fast-check';
import { connect, type Sluice } from 'sluice';
import type { EndReason, HandlerStats } from 'sluice/http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { audiencesFrom } from '../../src/http/audience.ts';
import { createFilters } from '../../src/http/filters.ts';
import { Histogram } from '../../src/http/histogram.ts';
import { Stats } from '../../src/http/stats.ts';
import { Batch, Entry } from '../../src/tail/entry.ts';
import { silentLogger } from '../../src/util/logger.ts';
import { useDatabase } from '../support/database.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { serve, type Serving } from '../support/serve.ts';
import { openSse, type SseClient } from '../support/sse.ts';
import { recordAt } from '../support/records.ts';

const db = useDatabase();
let sluice: Sluice;

beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString, fallbackPollMs: 100 });
});
afterAll(() => sluice.close());

let names = 0;
const newStream = async (): Promise<string> => {
  const name = `counted ${(names += 1)}`;
  await sluice.createStream(name);
  return name;
};
const opened = async (url: string): Promise<SseClient> => {
  const client = await openSse(url);
  await client.opened();
  return client;
};
const streamOf = ({ streams }: HandlerStats, name: string): HandlerStats['streams'][number] | undefined =>
  streams.find(({ stream }) => stream === name);
/** The bytes of the events that a client got. */
const bytesOf = ({ events }: SseClient): number =>
  events.reduce((sum, { id = '', data = '' }) => sum + Buffer.byteLength(`id: ${id}\ndata: ${data}\n\n`), 0);
const shut = async (serving: Serving, ...clients: SseClient[]): Promise<void> => {
  for (const client of clients) client.close();
  await until(() => serving.handler.stats().connections === 0);
};

describe('what a handler tells', () => {
  test('nothing has happened yet', async () => {
    await using serving = await serve(sluice);
    const stats = serving.handler.stats();
    expect(stats).toMatchObject({
      connections: 0,
      opened: 0,
      events: 0,
      bytes: 0,
      fanOut: null,
      refused: {},
    });
    expect(stats.streams).toEqual([]);
    expect(stats.latencyMs).toMatchObject({ count: 0, sum: 0 });
    expect(Object.values(stats.ended).every((count) => count === 0)).toBe(true);
  });

  test('replay and live, by stream and in all, to the byte', async () => {
    await using serving = await serve(sluice);
    const name = await newStream();
    await sluice.stream(name).appendMany([{ data: 'ä' }, { data: 2 }, { data: 3 }]);
    const behind = await opened(serving.url(name, 'after=start'));
    await behind.received(3);
    const [here, there] = [await opened(serving.url(name)), await opened(serving.url(name))];
    await sluice.stream(name).append({ live: true });
    await sluice.stream(name).appendMany([{ data: 5 }, { data: 6 }]);
    const clients = [behind, here, there];
    for (const client of clients) await client.until(({ offsets }) => offsets.includes(6));
    const stats = serving.handler.stats();
    const expected = {
      connections: 3,
      opened: 3,
      evicted: 0,
      events: 3 + 3 * 3,
      bytes: clients.reduce((sum, client) => sum + bytesOf(client), 0),
      liveEvents: 3,
      fanOut: 3,
    };
    expect(stats).toMatchObject({ ...expected, refused: {} });
    expect(stats.streams).toEqual([expect.objectContaining({ stream: name, ...expected })]);
    // One caught up with three events, two with none.
    expect(stats.replayEvents).toMatchObject({ count: 3, sum: 3 });
    expect(stats.replayEvents.buckets.slice(0, 3)).toEqual([
      { le: 0, count: 2 },
      { le: 1, count: 2 },
      { le: 10, count: 3 },
    ]);
    // A sample for each write of something live: two wakes to three connections, or more if they came in smaller parts.
    expect(stats.latencyMs.count).toBeGreaterThanOrEqual(6);
    expect(stats.latencyMs.count).toBeLessThanOrEqual(9);
    expect(stats.latencyMs.buckets.at(-1)).toEqual({ le: Infinity, count: stats.latencyMs.count });
    await shut(serving, ...clients);
    const after = serving.handler.stats();
    expect(after).toMatchObject({ ...expected, connections: 0, ended: { client: 3, slow: 0 }, streams: [] });
  });

  test('several streams on one connection: one connection in all, and one in each', async () => {
    await using serving = await serve(sluice);
    const [a, b] = [await newStream(), await newStream()];
    await sluice.stream(a).append(1);
    const both = await opened(serving.url(a, `stream=${encodeURIComponent(b)}&after=start`));
    const one = await opened(serving.url(b));
    await sluice.stream(b).append(1);
    await both.received(2);
    await one.received(1);
    const stats = serving.handler.stats();
    expect(stats).toMatchObject({ connections: 2, opened: 2, events: 3, liveEvents: 1, fanOut: 2 });
    expect(streamOf(stats, a)).toMatchObject({ connections: 1, events: 1, liveEvents: 0, fanOut: null });
    expect(streamOf(stats, b)).toMatchObject({ connections: 2, events: 2, fanOut: 2 });
    expect(streamOf(stats, a)!.bytes + streamOf(stats, b)!.bytes).toBe(stats.bytes);
    expect(stats.bytes).toBe(bytesOf(both) + bytesOf(one));
    one.close();
    await until(() => streamOf(serving.handler.stats(), b)?.connections === 1);
    await shut(serving, both);
    expect(serving.handler.stats().streams).toEqual([]);
  });

  test('requests that were refused, by status', async () => {
    await using serving = await serve(sluice, {
      limits: { maxConnections: 1 },
      authorize: async (request) =>
        new URL(request.url).searchParams.has('forbidden')
          ? new Response(null, { status: 403 })
          : { principal: null },
    });
    const name = await newStream();
    const ask = async (path: string): Promise<void> => {
      const response = await fetch(`${serving.origin}${path}`);
      await response.body?.cancel();
    };
    await ask(`/v1/events?stream=unknown`);
    await ask(`/v1/events?stream=a&forbidden`);
    await ask(`/v1/events?stream=a&forbidden`);
    await ask('/v1/events');
    await ask('/elsewhere');
    using client = await opened(serving.url(name));
    await ask(`/v1/events?stream=unknown`);
    const stats = serving.handler.stats();
    expect(stats.refused).toEqual({ 400: 1, 403: 2, 404: 1, 503: 1 });
    expect(stats).toMatchObject({ connections: 1, opened: 1 });
    client.close();
  });

  test('connections that were dropped for being slow', async () => {
    await using serving = await serve(sluice, { limits: { heartbeatMs: 20, drainTimeoutMs: 1000 } });
    const name = await newStream();
    const stalled = await opened(serving.url(name));
    using reading = await opened(serving.url(name));
    stalled.pause();
    const dropped = nextMessage<{ reason: string }>('sluice:sse.closed', ({ reason }) => reason === 'slow');
    const data = 'x'.repeat(200_000);
    for (let n = 0; n < 6; n += 1) {
      await sluice.stream(name).appendMany(Array.from({ length: 10 }, () => ({ data })));
    }
    await dropped;
    await reading.received(60);
    const stats = serving.handler.stats();
    expect(stats).toMatchObject({ connections: 1, opened: 2, evicted: 1, ended: { slow: 1, client: 0 } });
    expect(streamOf(stats, name)).toMatchObject({ connections: 1, opened: 2, evicted: 1 });
    stalled.close();
  });

  test('is a copy that nothing changes', async () => {
    await using serving = await serve(sluice);
    const name = await newStream();
    const client = await opened(serving.url(name));
    const stats = serving.handler.stats();
    const frozen = (value: unknown): boolean =>
      typeof value !== 'object' ||
      value === null ||
      (Object.isFrozen(value) && Object.values(value).every(frozen));
    expect(frozen(stats)).toBe(true);
    const before = JSON.stringify(stats);
    await sluice.stream(name).append(1);
    await client.received(1);
    expect(JSON.stringify(stats)).toBe(before);
    await shut(serving, client);
  });
});

describe('counting', () => {
  const entry = (offset: bigint): Entry => new Entry({ name: 's', incarnation: 1n }, recordAt(offset));

  test('I7: whatever opens and ends in whatever order, what is open is never below nothing and all of it goes', () => {
    const reasons = Object.keys(new Stats().snapshot().ended) as EndReason[];
    const step = fc.record({
      streams: fc.uniqueArray(fc.constantFrom('a', 'b', 'c', '__proto__'), { minLength: 1 }),
      end: fc.nat(),
      reason: fc.constantFrom(...reasons),
    });
    fc.assert(
      fc.property(fc.array(step), (steps) => {
        const stats = new Stats();
        const open: { streams: string[]; end: (reason: EndReason) => void }[] = [];
        const ended: typeof open = [];
        for (const { streams, end, reason } of steps) {
          const count = stats.opened(streams.map((stream) => ({ stream, behind: 1 })));
          open.push({ streams, end: count });
          const [gone] = end % 2 === 0 ? open.splice(end % open.length, 1) : [];
          if (gone) ended.push(gone);
          for (const each of ended) each.end(reason); // all but one for the second time
          const told = stats.snapshot();
          expect(told.connections).toBe(open.length);
          expect(Object.values(told.ended).reduce((sum, count) => sum + count, 0)).toBe(ended.length);
          for (const stream of ['a', 'b', 'c', '__proto__']) {
            const count = open.filter((each) => each.streams.includes(stream)).length;
            expect(streamOf(told, stream)?.connections ?? 0).toBe(count);
          }
        }
        for (const each of open) each.end('client');
        expect(stats.snapshot().streams).toEqual([]);
      }),
    );
  });

  test('an event that comes as it is counts once as live, however many get it and in whatever parts', () => {
    const stats = new Stats();
    stats.opened([{ stream: 's', behind: 0 }]);
    const batch = new Batch([entry(1n), entry(2n), entry(3n)], { live: true });
    for (const each of [batch, batch, batch.after(1n)]) stats.delivered('s', each, 10);
    stats.delivered('s', new Batch(batch.entries), 10); // caught up with later
    const { events, liveEvents, fanOut, bytes } = stats.totals();
    expect({ events, liveEvents, fanOut, bytes }).toEqual({
      events: 11,
      liveEvents: 3,
      fanOut: 8 / 3,
      bytes: 40,
    });
  });

  test('so it does where a part of it is hidden from each of them', () => {
    const stats = new Stats();
    stats.opened([{ stream: 's', behind: 0 }]);
    const batch = new Batch([entry(1n), entry(2n), entry(3n), entry(4n)], { live: true });
    const filter = createFilters(audiencesFrom({}), silentLogger).events;
    for (const part of [[3n], [1n, 2n], [2n, 3n], [1n]]) {
      const visible = ({ offset }: { offset: bigint }): boolean => part.includes(offset);
      const seen = filter(batch, { context: undefined, visible }, 'somebody');
      if (seen) stats.delivered('s', seen, 10);
    }
    expect(stats.totals()).toMatchObject({ events: 6, liveDeliveries: 6, liveEvents: 3, fanOut: 2 });
    expect(stats.totals().latencyMs.count).toBe(4);
  });

  test('a histogram counts each value once, at the first bound that holds it', () => {
    const values = fc.array(
      fc.oneof(fc.double({ noNaN: true, min: -10, max: 200 }), fc.constant(Number.NaN)),
    );
    fc.assert(
      fc.property(values, (given) => {
        const histogram = new Histogram([0, 5, 100]);
        for (const value of given) histogram.observe(value);
        const taken = given.map((value) => Math.max(0, Number.isNaN(value) ? 0 : value));
        const { count, sum, buckets } = histogram.stats();
        expect(count).toBe(given.length);
        expect(sum).toBeCloseTo(taken.reduce((all, value) => all + value, 0));
        expect(buckets.map(({ le }) => le)).toEqual([0, 5, 100, Infinity]);
        for (const { le, count } of buckets) expect(count).toBe(taken.filter((value) => value <= le).length);
      }),
    );
  });
});
