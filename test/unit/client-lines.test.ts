// Guards which connection serves whom, with a server that says each frame when the test wants it: who has caught up is
// never put behind somebody who has not (I2), and what was refused is not asked for over and over.
import { Lines } from '../../src/client/lines.ts';
import { settingsOf } from '../../src/client/settings.ts';
import { Subscriber } from '../../src/client/subscriber.ts';
import { describe, expect, test } from 'vitest';
import { Refusals } from '../../src/client/refusals.ts';
import { until } from '../support/diagnostics.ts';
import { at, scriptEvents, type Attempt } from '../support/scripted-events.ts';
import { collect } from '../support/stream-reader.ts';

test('I2: a replay beside a live reader keeps no live event from it', async () => {
  const { client, attempt } = scriptEvents();
  const live = collect(client.subscribe('a'));
  const main = await attempt(0);
  main.open({ a: 5 });
  main.id(at(5));
  await until(() => client.status.get().state === 'live');
  const replay = collect(client.subscribe('a', { after: 'start' }));
  const own = await attempt(1);
  own.open({ a: 5 });
  own.id(at(0));
  own.event('a', 1);
  await replay.received(1);
  main.event('a', 6);
  await live.received(1);
  main.event('a', 7);
  await live.received(2);
  for (const offset of [2, 3, 4, 5]) own.event('a', offset);
  await replay.received(5);
  main.event('a', 8);
  await live.received(3);
  for (const offset of [6, 7, 8]) own.event('a', offset);
  await until(() => client.status.get().connections.length === 1);
  const left = main.isOver ? own : main;
  left.event('a', 9);
  await Promise.all([live.received(4), replay.received(9)]);
  expect([live.offsets, replay.offsets]).toEqual([
    [6, 7, 8, 9],
    [1, 2, 3, 4, 5, 6, 7, 8, 9],
  ]);
});

describe('a newcomer to a stream that is being read', () => {
  test.each([
    ['further, which the server may know as another history', at(12)],
    ['at the same offset of another history', '1-a-9'],
  ])('I8: %s, is judged by the server', async (_, after) => {
    const { client, attempt } = scriptEvents();
    const first = client.subscribe('a');
    const main = await attempt(0);
    main.open({ a: 10 });
    main.id(at(10));
    await first.ready;
    const second = collect(client.subscribe('a', { after }));
    const own = await attempt(1);
    expect(own.lastEventId).toBe(after);
    own.open({ a: 10 });
    const loss = { stream: 'a', reason: 'history', requested: '10', oldest: '1', head: '10' };
    own.tell('sluice:reset', { ...loss, resumedAt: at(0) });
    own.id(at(0));
    own.event('a', 1);
    await second.received(1);
    expect(second.items[0]).toMatchObject({ kind: 'reset', reason: 'history', cursor: at(0) });
  });

  test('joins at the same place, unless the line is waited for or waits for its readers', async () => {
    const { client, attempts, attempt } = scriptEvents();
    const slow = client.subscribe('a');
    const main = await attempt(0);
    main.open({ a: 10 });
    main.id(at(10));
    await slow.ready;
    await client.subscribe('a', { after: at(10) }).ready;
    await client.subscribe('a').ready;
    expect(attempts.length).toBe(1);
    main.cut();
    const again = await attempt(1);
    const late = client.subscribe('a');
    const own = await attempt(2);
    expect(own.after).toBe('end');
    own.open({ a: 11 });
    own.id(at(11));
    await late.ready;
    late.close();
    again.open({ a: 10 });
    again.id(at(10));
    for (let offset = 11; offset <= 1010; offset += 1) again.event('a', offset);
    await until(() => slow.cursor === at(10) && client.status.get().connections.length === 1);
    const fast = collect(client.subscribe('a', { after: at(1010) }));
    const apart = await attempt(3);
    apart.open({ a: 1010 });
    apart.id(at(1010));
    apart.event('a', 1011);
    await fast.received(1);
  });
});

describe('streams that are refused together and not apart', () => {
  test.each([
    ['for good, by their number', 400],
    ['for now', 403],
  ])('%s: are not asked for together again', async (_, status) => {
    const { client, attempts, attempt } = scriptEvents();
    const [first, second, third] = ['a', 'b', 'c'].map((name) => client.subscribe(name));
    const readers = [first!, second!, third!].map(collect);
    (await attempt(0)).answer(status);
    const parts = [await attempt(1), await attempt(2)];
    const opened = (part: Attempt): void => {
      part.open(Object.fromEntries(part.streams.map((name) => [name, 1])));
      part.id(part.streams.map((_, index) => at(1, index + 1)).join('.'));
    };
    parts.forEach(opened);
    await Promise.all([first!.ready, second!.ready, third!.ready]);
    for (const part of parts) part.event(part.streams[0]!, 2, part.streams.map(() => at(2)).join('.'));
    await until(() => readers.filter(({ offsets }) => offsets.length === 1).length === 2);
    expect(attempts.map(({ streams }) => streams.length).sort((a, b) => a - b)).toEqual([1, 2, 3]);
    third!.close();
    await until(() => parts.some(({ streams, isOver }) => streams[0] === 'c' && isOver));
    const again = client.subscribe('c');
    opened(await attempt(3));
    await again.ready;
    expect(attempts[3]!.streams).toEqual(['c']);
  });

  test('are asked for together once one of them was to blame', () => {
    const refusals = new Refusals();
    const problem = { status: 403, title: '', detail: '' };
    refusals.add({ state: 'refused', streams: ['a', 'b', 'c'], problem });
    refusals.add({ state: 'failed', streams: ['e', 'f', 'g'], problem });
    refusals.add({ state: 'refused', streams: ['h', 'i'], problem: { ...problem, status: 404 } });
    const isRefused = (...asked: string[]): boolean => refusals.concern(asked);
    expect([isRefused('a', 'b'), isRefused('c', 'b', 'a', 'd'), isRefused('h', 'i')]).toEqual([
      false,
      true,
      false,
    ]);
    expect([isRefused('x', 'y', 'z'), isRefused('x', 'y')]).toEqual([true, false]);
    refusals.explain({ state: 'refused', streams: ['f'], problem: { ...problem, status: 401 } });
    expect(isRefused('x', 'y', 'z')).toBe(true);
    refusals.explain({ state: 'failed', streams: ['f'], problem });
    expect(isRefused('x', 'y', 'z')).toBe(false);
    refusals.explain({ state: 'refused', streams: ['b'], problem });
    expect(isRefused('a', 'b', 'c')).toBe(false);
  });
});

test('I8: losses where a subscription begins have a cursor of all its streams, and are told again to who resumes', async () => {
  const { client, attempt } = scriptEvents();
  const subscription = client.subscribe(['a', 'b', 'c'], { after: 3n });
  const line = await attempt(0);
  line.open({ a: 9, b: 9, c: 9 });
  const loss = { reason: 'trimmed', requested: '3', oldest: '6', head: '9' };
  line.tell('sluice:gap', { ...loss, stream: 'a', resumedAt: at(5) });
  line.tell('sluice:gap', { ...loss, stream: 'b', resumedAt: at(5, 2) });
  const cursor = `${at(5)}.${at(5, 2)}.${at(3, 3)}`;
  line.id(cursor);
  await subscription.ready;
  expect(subscription.cursor).toBeUndefined();
  const reader = collect(subscription);
  line.event('c', 4, `${at(5)}.${at(5, 2)}.${at(4, 3)}`);
  await reader.received(1);
  expect(reader.items).toMatchObject([
    { kind: 'gap', stream: 'a', cursor },
    { kind: 'gap', stream: 'b', cursor },
    { kind: 'event', stream: 'c' },
  ]);
});

test('I2: a try that was overtaken while it waited for headers asks for nothing any more', async () => {
  const waiting: (() => void)[] = [];
  const { client, attempts, attempt } = scriptEvents({
    headers: () => new Promise((done) => waiting.push(() => done({}))),
  });
  client.subscribe('a');
  await until(() => waiting.length === 1);
  const reader = collect(client.subscribe('b'));
  await until(() => waiting.length === 2);
  waiting[1]!();
  const line = await attempt(0);
  line.open({ a: 0, b: 0 });
  line.id(`${at(0)}.${at(0, 2)}`);
  await until(() => client.status.get().connections[0]?.id !== null);
  waiting[0]!();
  line.event('b', 1, `${at(0)}.${at(1, 2)}`);
  await reader.received(1);
  expect(attempts.length).toBe(1);
});

test('I2: connections that were closed take nobody on any more, whatever was under way', async () => {
  const { fetch, attempts, attempt } = scriptEvents();
  const open = (): Lines => new Lines(settingsOf({ url: 'http://scripted.invalid', fetch }), () => {});
  const reading = (stream: string, after: string): Subscriber =>
    new Subscriber({ streams: [stream], after, presence: undefined }, () => {});
  const [closed, other] = [open(), open()];
  const [first, second] = [reading('a', 'end'), reading('a', 'start')];
  closed.attach(first);
  (await attempt(0)).open({ a: 1 });
  (await attempt(0)).id(at(1));
  await first.ready;
  closed.attach(second);
  for (const each of [first, second]) closed.detach(each);
  closed.close();
  await import('../../src/client/rearrange.ts');
  const sentinel = reading('b', 'end');
  other.attach(sentinel);
  await attempt(1);
  expect(attempts.map(({ streams }) => streams)).toEqual([['a'], ['b']]);
  other.detach(sentinel);
});

test('a connection has no name before the server has given it one', async () => {
  const { client, attempt } = scriptEvents();
  const named: unknown[] = [];
  client.status.subscribe(() => named.push(client.status.get().connections[0]?.id));
  client.subscribe('a');
  const first = await attempt(0);
  first.open({ a: 0 });
  first.id(at(0));
  await until(() => named.at(-1) === 'c1');
  first.cut();
  (await attempt(1)).open({ a: 0 });
  await until(() => named.at(-1) === 'c2');
  expect(named.filter((id, index) => id !== named[index - 1])).toEqual([null, 'c1', null, 'c2']);
});
