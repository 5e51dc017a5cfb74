// Guards I2, I8 and I9 for several streams on one connection: each event once and in the order of its stream, under one
// cursor for all, which resumes each of them exactly, whatever cuts the connection and whatever happens to one of them.
import type { Sluice } from 'sluice';
import { describe, expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { createProxy } from '../support/proxy.ts';
import { randomFrom } from '../support/seed.ts';
import { serve, useServing, type Serving } from '../support/serve.ts';
import { openSse, ResumingSse, type Frame } from '../support/sse.ts';
import { upTo } from '../support/up-to.ts';

const db = useDatabase();
let sluice: Sluice;
let serving: Serving;

useServing(db, { fallbackPollMs: 100, windowEvents: 50 }, (started) => ({ sluice, serving } = started));

let made = 0;
const newStreams = async (count: number): Promise<string[]> => {
  const names = Array.from({ length: count }, () => `several ${(made += 1)}`);
  for (const name of names) await sluice.createStream(name);
  return names;
};
const urlOf = (names: readonly string[], more = '', port: number = serving.port): string => {
  const [first = '', ...others] = names;
  const rest = others.map((name) => `stream=${encodeURIComponent(name)}`);
  return serving.url(first, [...rest, ...(more === '' ? [] : [more])].join('&'), port);
};
const write = async (name: string, count: number): Promise<void> => {
  await sluice.stream(name).appendMany(Array.from({ length: count }, (_, index) => ({ data: index })));
};

/** The offsets received of each stream, in order. */
const byStream = (events: readonly Frame[]): Record<string, number[]> => {
  const offsets: Record<string, number[]> = {};
  for (const { data = '' } of events) {
    const { stream, offset } = JSON.parse(data) as { stream: string; offset: string };
    (offsets[stream] ??= []).push(Number(offset));
  }
  return offsets;
};

test('the opening names all, and each event carries one cursor for all that a reconnect resumes from', async () => {
  const [a = '', b = ''] = await newStreams(2);
  await write(a, 3);
  using client = await openSse(urlOf([a, b], 'after=start'));
  await client.received(3);
  await write(b, 2);
  await client.received(5);
  await write(a, 1);
  await client.received(6);
  const [{ streams }] = client.control('open') as [{ streams: unknown }];
  expect(streams).toEqual([
    { name: a, head: '3', oldest: '1' },
    { name: b, head: '0', oldest: '1' },
  ]);
  expect(byStream(client.events)).toEqual({ [a]: [1, 2, 3, 4], [b]: [1, 2] });
  for (const [index, { id }] of client.events.entries()) {
    using again = await openSse(urlOf([b, a]), { lastEventId: id }); // in any order
    await again.received(5 - index);
    const before = byStream(client.events.slice(0, index + 1));
    const after = byStream(again.events);
    for (const [name, all] of [[a, upTo(4)] as const, [b, upTo(2)] as const]) {
      expect([...(before[name] ?? []), ...(after[name] ?? [])]).toEqual(all);
    }
  }
});

test('a stream the cursor does not know starts at `after`, else at the end; one not asked for is ignored', async () => {
  const [a = '', b = '', c = ''] = await newStreams(3);
  for (const name of [a, b, c]) await write(name, 2);
  const { cursor } = await sluice.stream(a).read({ after: 'start', limit: 1 });
  using fromStart = await openSse(urlOf([a, b], 'after=start'), { lastEventId: cursor });
  await fromStart.received(3);
  expect(byStream(fromStart.events)).toEqual({ [a]: [2], [b]: [1, 2] });
  using fromEnd = await openSse(urlOf([a, b]), { lastEventId: cursor });
  await fromEnd.received(1);
  await write(b, 1);
  await fromEnd.received(2);
  expect(byStream(fromEnd.events)).toEqual({ [a]: [2], [b]: [3] });
  using without = await openSse(urlOf([b, c], 'after=start'), { lastEventId: fromEnd.lastEventId });
  await without.received(2);
  expect(byStream(without.events)).toEqual({ [c]: [1, 2] });
});

test('I2: where `after` is a cursor too, it says where those start that the last id does not know', async () => {
  const [a = '', b = ''] = await newStreams(2);
  for (const name of [a, b]) await write(name, 4);
  const cursorOf = async (name: string, limit: number): Promise<string> =>
    (await sluice.stream(name).read({ limit })).cursor;
  const after = `${await cursorOf(a, 1)}.${await cursorOf(b, 2)}`;
  const lastEventId = await cursorOf(a, 3);
  using both = await openSse(urlOf([a, b], `after=${after}`), { lastEventId });
  await both.received(3);
  expect(byStream(both.events)).toEqual({ [a]: [4], [b]: [3, 4] });
  using other = await openSse(urlOf([b], `after=${after}`), { lastEventId });
  await other.received(2);
  expect(byStream(other.events)).toEqual({ [b]: [3, 4] });

  const page = await sluice.watermark([a, 'made later']);
  const [c = ''] = await newStreams(1);
  await write(c, 2);
  using later = await openSse(urlOf([a, c], `after=${page}`), { lastEventId });
  await later.received(3);
  expect(byStream(later.events)).toEqual({ [a]: [4], [c]: [1, 2] });
});

test('I2: twenty streams, replayed and live, through cuts: each event once, in order', async () => {
  const names = await newStreams(20);
  const random = randomFrom(20);
  for (const name of names) await write(name, 1 + random.below(120)); // some within the window, some beyond
  using proxy = await createProxy({ targetPort: serving.port });
  using client = new ResumingSse(urlOf(names, 'after=start', proxy.port));
  for (let round = 0; round < 30; round += 1) {
    await write(random.pick(names), 1 + random.below(20));
    if (round % 5 === 4) {
      await until(() => client.connections > 0 && client.events.length > 0);
      proxy.cut();
    }
  }
  const heads = new Map<string, number>();
  for (const name of names) heads.set(name, Number((await sluice.stream(name).info())?.head));
  const total = [...heads.values()].reduce((sum, head) => sum + head, 0);
  await until(() => client.events.length >= total);
  const got = byStream(client.events);
  for (const name of names) expect(got[name]).toEqual(upTo(heads.get(name) ?? 0));
  expect(client.connections).toBeGreaterThan(1);
});

describe('I8 I9: what happens to one of them', () => {
  test('trimmed: its gap is told before the id that stands beyond it; the other goes on', async () => {
    const [a = '', b = ''] = await newStreams(2);
    await write(a, 5);
    await write(b, 5);
    using first = await openSse(urlOf([a, b], 'after=start'));
    await first.received(10);
    const lastEventId = first.events[1]?.id;
    await sluice.stream(a).trim({ before: 5n });
    await sluice.stream(b).trim({ before: 1n });
    using client = await openSse(urlOf([a, b]), { lastEventId });
    await until(() => (byStream(client.events)[a] ?? []).includes(5));
    const [gap] = client.control('gap') as [{ stream: string; oldest: string }];
    const told = byStream(first.events.slice(0, 2))[a]?.length ?? 0;
    if (told < 4) expect(gap).toMatchObject({ stream: a, oldest: '5' });
    const kinds = client.frames.map(({ event, id }) => event ?? (id === undefined ? '' : 'id'));
    expect(kinds.indexOf('sluice:gap')).toBeLessThan(kinds.indexOf('id'));
    expect(client.frames.every(({ event, id }) => !event?.startsWith('sluice:') || id === undefined)).toBe(
      true,
    );
  });

  test('deleted and made again while away: a reset, not silence', async () => {
    const [a = '', b = ''] = await newStreams(2);
    await write(a, 3);
    await write(b, 3);
    const first = await openSse(urlOf([a, b], 'after=start'));
    await first.received(6);
    first.close();
    // Until its tail has heard of it, a reader may still be let in, and is sent away to come again.
    const gone = nextMessage<{ stream: string }>('sluice:tail.closed', ({ stream }) => stream === a);
    await sluice.deleteStream(a);
    await gone;
    await sluice.createStream(a);
    await write(a, 2);
    using client = await openSse(urlOf([a, b]), { lastEventId: first.lastEventId });
    await client.received(2);
    expect(client.control('reset')).toEqual([
      expect.objectContaining({ stream: a, reason: 'recreated', requested: '3', oldest: '1' }),
    ]);
    expect(byStream(client.events)).toEqual({ [a]: [1, 2] });
  });

  test('deleted while live: the connection ends, and is refused until it asks for the others alone', async () => {
    const [a = '', b = ''] = await newStreams(2);
    using client = await openSse(urlOf([a, b]));
    await client.opened();
    await sluice.deleteStream(a);
    await client.ended();
    const answer = await fetch(urlOf([a, b]), { headers: { 'last-event-id': client.lastEventId } });
    expect(answer.status).toBe(404);
    await answer.body?.cancel();
    await write(b, 1);
    using other = await openSse(urlOf([b]), { lastEventId: client.lastEventId });
    await other.received(1);
  });
});

test('I7: a stalled connection of several streams delays nobody, and resumes them all', async () => {
  const [a = '', b = ''] = await newStreams(2);
  using stalled = await openSse(urlOf([a, b]));
  using live = await openSse(urlOf([a, b]));
  await Promise.all([stalled, live].map((each) => each.opened()));
  stalled.pause();
  const data = 'x'.repeat(50_000);
  for (let round = 0; round < 40; round += 1) {
    for (const name of [a, b]) await sluice.stream(name).appendMany([{ data }, { data }, { data }]);
  }
  await live.received(240);
  stalled.resume();
  await stalled.received(240);
  for (const client of [stalled, live]) {
    expect(byStream(client.events)).toEqual({ [a]: upTo(120), [b]: upTo(120) });
  }
});

test('I10: what is hidden in one of several moves the cursor of all, with the next heartbeat', async () => {
  const [a = '', b = ''] = await newStreams(2);
  await using guarded = await serve(sluice, {
    audiences: { nobody: () => false },
    limits: { heartbeatMs: 30 },
  });
  using client = await openSse(urlOf([a, b], 'after=start', guarded.port));
  await client.opened();
  await sluice.stream(a).append(1);
  await sluice.stream(a).append('hidden', { visibleTo: 'nobody' });
  await sluice.stream(b).append('hidden', { visibleTo: 'nobody' });
  const { cursor: endOfA } = await sluice.stream(a).read();
  const { cursor: endOfB } = await sluice.stream(b).read();
  await client.until(({ lastEventId }) => lastEventId === `${endOfA}.${endOfB}`);
  expect(byStream(client.events)).toEqual({ [a]: [1] });
});
