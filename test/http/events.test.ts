// Guards what stands on the wire of GET /v1/events: the opening frames, both formats, where a connection starts, what
// carries an id, and that nothing stored can forge a frame.
import * as fc from 'fast-check';
import type { Sluice } from 'sluice';
import { EventSource } from 'eventsource';
import { describe, expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';
import { serve, useServing, type Serving } from '../support/serve.ts';
import { openSse, type Frame, type SseClient } from '../support/sse.ts';

const db = useDatabase();
let sluice: Sluice;
let serving: Serving;

useServing(db, { fallbackPollMs: 100 }, (started) => ({ sluice, serving } = started));

let names = 0;
/** A stream of its own, with events 1 to `count`, each the number of its offset. */
const streamOf = async (count: number): Promise<string> => {
  const name = `wire ${(names += 1)}`;
  await sluice.createStream(name);
  const data = Array.from({ length: count }, (_, index) => ({ data: index + 1 }));
  if (count > 0) await sluice.stream(name).appendMany(data);
  return name;
};
const cursorAt = async (name: string, offset: bigint): Promise<string> =>
  (await sluice.stream(name).read({ after: offset, limit: 1 })).cursor;
const envelopes = ({ events }: SseClient): unknown[] =>
  events.map(({ data = '' }) => JSON.parse(data) as unknown);

describe('the opening', () => {
  test('retry, then sluice:open without an id, then the starting cursor alone', async () => {
    const name = await streamOf(3);
    using client = await openSse(serving.url(name));
    await client.until(({ frames }) => frames.length >= 3);
    const [retry, open, id, ...more] = client.frames;
    expect(retry).toEqual({ retry: expect.stringMatching(/^\d+$/) });
    expect(Number(retry?.retry)).toBeGreaterThanOrEqual(1600);
    expect(Number(retry?.retry)).toBeLessThanOrEqual(2400);
    expect(open).toEqual({ event: 'sluice:open', data: expect.any(String) });
    expect(JSON.parse(open?.data ?? '')).toEqual({
      connectionId: expect.stringMatching(/^[0-9a-f-]{36}$/),
      streams: [{ name, head: '3', oldest: '1' }],
    });
    expect(id).toEqual({ id: (await sluice.stream(name).read({ after: 'end' })).cursor });
    expect(more).toEqual([]);
  });

  test('headers keep caches, proxies and compression out of the way, and no idle connection afterwards', async () => {
    using client = await openSse(serving.url(await streamOf(0)));
    expect(client.response.headers).toMatchObject({
      'content-type': expect.stringMatching(/^text\/event-stream/),
      'cache-control': 'no-cache, no-transform',
      'x-accel-buffering': 'no',
      'x-content-type-options': 'nosniff',
      connection: 'close',
    });
  });

  test('each connection has an id and a retry of its own', async () => {
    const name = await streamOf(0);
    const clients = await Promise.all(Array.from({ length: 5 }, () => openSse(serving.url(name))));
    await Promise.all(clients.map((client) => client.until(({ frames }) => frames.length >= 3)));
    expect(new Set(clients.map(({ frames }) => frames[1]?.data)).size).toBe(5);
    expect(new Set(clients.map(({ frames }) => frames[0]?.retry)).size).toBeGreaterThan(1);
    for (const client of clients) client.close();
  });
});

describe('formats', () => {
  const typed = async (): Promise<string> => {
    const name = await streamOf(0);
    await sluice.stream(name).append({ n: 1 }, { type: 'order.placed', key: 'k', headers: { trace: 't' } });
    await sluice.stream(name).append(null);
    return name;
  };

  test('envelope: everything but the headers, no event line', async () => {
    const name = await typed();
    using client = await openSse(serving.url(name, 'after=start'));
    await client.received(2);
    expect(client.events.map(({ event }) => event)).toEqual([undefined, undefined]);
    const { events } = await sluice.stream(name).read();
    expect(envelopes(client)).toEqual([
      { stream: name, offset: '1', type: 'order.placed', key: 'k', data: { n: 1 }, at: expect.any(String) },
      { stream: name, offset: '2', type: null, key: null, data: null, at: expect.any(String) },
    ]);
    expect(envelopes(client)).toEqual(events.map((event) => event.toJSON()));
    expect(client.events.map(({ id }) => id)).toEqual(events.map(({ cursor }) => cursor));
  });

  test('data: the bare payload under its type, and no event line without one', async () => {
    const name = await typed();
    using client = await openSse(serving.url(name, 'after=start&format=data'));
    await client.received(2);
    const { events } = await sluice.stream(name).read();
    expect(client.events).toEqual([
      { id: events[0]?.cursor, event: 'order.placed', data: '{"n":1}' },
      { id: events[1]?.cursor, data: 'null' },
    ]);
  });

  test('a stock EventSource sees envelopes in onmessage, and typed data in listeners', async () => {
    const name = await typed();
    const seen: unknown[] = [];
    const all = new EventSource(serving.url(name, 'after=start'));
    const bare = new EventSource(serving.url(name, 'after=start&format=data'));
    all.addEventListener('message', ({ data }) => seen.push((JSON.parse(data) as { offset: string }).offset));
    bare.addEventListener('order.placed', ({ data, lastEventId }) => seen.push([data, lastEventId]));
    bare.addEventListener('message', ({ data }) => seen.push(data));
    await until(() => seen.length >= 4);
    all.close();
    bare.close();
    const cursor = await cursorAt(name, 0n);
    expect(seen).toEqual(expect.arrayContaining(['1', '2', ['{"n":1}', cursor], 'null']));
  });
});

describe('I9: nothing stored forges a field, a frame or an id', () => {
  const nasty = [
    'a\nb\r\nc\rd',
    '\n\nid: 999\n\n',
    'data: x\n\nevent: sluice:reset\ndata: {}\n\n',
    '\u2028\u2029\u0085\u000b\u000c\u0000\u001e\u007f\uFEFF',
    ': comment\nretry: 0\n',
    '\ud800', // half a pair: JSON can escape it
    '😀é',
  ];

  test('payloads, keys and names come back as they went in, in both formats', async () => {
    const name = `wire ${(names += 1)} \u2028 data: x 😀`;
    const stream = sluice.stream(name);
    for (const data of nasty) {
      await stream.append({ [data]: [data] }, { key: data.replaceAll(/[\0\ud800]/g, '-') });
    }
    using whole = await openSse(serving.url(name, 'after=start'));
    using bare = await openSse(serving.url(name, 'after=start&format=data'));
    await Promise.all([whole.received(nasty.length), bare.received(nasty.length)]);
    expect(envelopes(whole)).toMatchObject(
      nasty.map((data) => ({
        stream: name,
        data: { [data]: [data] },
        key: data.replaceAll(/[\0\ud800]/g, '-'),
      })),
    );
    expect(envelopes(bare)).toEqual(nasty.map((data) => ({ [data]: [data] })));
    for (const client of [whole, bare]) {
      // The stock parser agrees frame by frame, but for those without data, which dispatch nothing.
      const dispatched = client.frames.filter(({ data }) => data !== undefined);
      expect(client.messages).toEqual(dispatched.map(({ id, event, data }) => ({ id, event, data })));
    }
  });

  test('JSON written by SQL keeps its line ends, and they stay inside the frame', async () => {
    const name = await streamOf(0);
    const texts = ['{\n"a":\r\n1\r}', '[\r\r1,\n\n2]', ' "x" ', '\n\n"id: 7"\n\n'];
    for (const text of texts) await db.query('select sluice.append($1, $2::json)', [name, text]);
    using whole = await openSse(serving.url(name, 'after=start'));
    using bare = await openSse(serving.url(name, 'after=start&format=data'));
    await Promise.all([whole.received(texts.length), bare.received(texts.length)]);
    const values = texts.map((text) => JSON.parse(text) as unknown);
    expect(envelopes(whole)).toMatchObject(values.map((data) => ({ data })));
    expect(envelopes(bare)).toEqual(values);
  });

  test('any JSON value', async () => {
    const name = await streamOf(0);
    const value = fc.jsonValue({ stringUnit: 'binary' });
    const values = fc.sample(value, { seed: 7, numRuns: 300 });
    await sluice.stream(name).appendMany(values.map((data) => ({ data })));
    using client = await openSse(serving.url(name, 'after=start&format=data'));
    await client.received(values.length);
    expect(envelopes(client)).toEqual(values.map((data) => JSON.parse(JSON.stringify(data)) as unknown));
  });
});

describe('where it starts', () => {
  const firstOffset = async (query: string, lastEventId?: string): Promise<number | undefined> => {
    using client = await openSse(query, { lastEventId });
    await client.received(1);
    return client.offsets[0];
  };

  test('at the end by default, and with after=end: the end when it was asked', async () => {
    const name = await streamOf(3);
    using silent = await openSse(serving.url(name));
    using explicit = await openSse(serving.url(name, 'after=end'));
    await Promise.all([silent, explicit].map((client) => client.until(({ frames }) => frames.length >= 3)));
    await sluice.stream(name).append(4);
    await Promise.all([silent.received(1), explicit.received(1)]);
    expect([silent.offsets, explicit.offsets]).toEqual([[4], [4]]);
  });

  test('strictly after a start, an offset or a cursor', async () => {
    const name = await streamOf(5);
    expect(await firstOffset(serving.url(name, 'after=start'))).toBe(1);
    expect(await firstOffset(serving.url(name, 'after=0'))).toBe(1);
    expect(await firstOffset(serving.url(name, 'after=3'))).toBe(4);
    expect(await firstOffset(serving.url(name, `after=${await cursorAt(name, 1n)}`))).toBe(3);
    expect(await firstOffset(serving.url(name, `after=${await cursorAt(name, 3n)}`))).toBe(5);
  });

  test('Last-Event-ID beats after; an empty one does not count', async () => {
    const name = await streamOf(5);
    const url = serving.url(name, 'after=1');
    expect(await firstOffset(url, await cursorAt(name, 2n))).toBe(4);
    expect(await firstOffset(url, '3')).toBe(4);
    using client = await openSse(url, { headers: { 'last-event-id': '' } });
    await client.received(1);
    expect(client.offsets[0]).toBe(2);
  });

  test('I2: replay of several pages joins live delivery, dense and in order', async () => {
    const name = await streamOf(2500);
    using client = await openSse(serving.url(name, 'after=start'));
    await client.received(1);
    for (let n = 1; n <= 50; n += 1) await sluice.stream(name).append(n);
    await client.received(2550);
    expect(client.offsets).toEqual(Array.from({ length: 2550 }, (_, index) => index + 1));
  });
});

test('I9: heartbeats are comments and do not move the cursor', async () => {
  await using serving = await serve(sluice, { limits: { heartbeatMs: 20 } });
  const name = await streamOf(2);
  using client = await openSse(serving.url(name, 'after=1'));
  const beats = ({ frames }: SseClient): Frame[] => frames.filter(({ comment }) => comment !== undefined);
  await client.until((c) => beats(c).length >= 3);
  const { lastEventId } = client;
  await client.until((c) => beats(c).length >= 5);
  expect(beats(client).every((frame) => Object.keys(frame).length === 1)).toBe(true);
  expect(lastEventId).toBe(await cursorAt(name, 1n));
  expect(client.lastEventId).toBe(lastEventId);
  expect(client.messages.map(({ event }) => event)).toEqual(['sluice:open', undefined]);
});
