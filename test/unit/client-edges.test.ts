// Guards the client where servers, networks and callers do what nobody means to: waits that are no time at all, readers
// that leave before anything is asked, addresses that are none, and bursts of what is small.
import { createClient, type Client, type FetchLike } from 'sluice/client';
import { afterEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { dispatch } from '../../src/client/dispatch.ts';
import { createFeed } from '../../src/client/feed.ts';
import { Lines } from '../../src/client/lines.ts';
import { settingsOf } from '../../src/client/settings.ts';
import { Subscriber } from '../../src/client/subscriber.ts';
import { until } from '../support/diagnostics.ts';
import { at, scriptEvents } from '../support/scripted-events.ts';

afterEach(() => {
  vi.useRealTimers();
});

describe('I7: a server that names no time at all is not hammered', () => {
  const answer = (text: string): Response =>
    new Response(text, { headers: { 'content-type': 'text/event-stream' } });
  const cases: readonly (readonly [string, string])[] = [
    ['retry: 0', 'retry: 0\n\n'],
    ['a shutdown for 0 ms', 'event: sluice:shutdown\ndata: {"retryMs":0}\n\n'],
    ['a shutdown for less than that', 'event: sluice:shutdown\ndata: {"retryMs":-9}\n\n'],
  ];
  test.each(cases)('%s', async (_, text) => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] });
    let asked = 0;
    const fetch: FetchLike = async () => {
      asked += 1;
      return answer(text);
    };
    const client = createClient({ url: 'http://scripted.invalid', fetch });
    onTestFinished(() => client.close());
    client.subscribe('a');
    for (let second = 0; second < 600; second += 1) await vi.advanceTimersByTimeAsync(100);
    expect(asked).toBeGreaterThan(1);
    expect(asked).toBeLessThan(60); // a minute, of waits whose bound grows to half of that
  });
});

test('nothing stays asked for on behalf of a reader that left as its headers came', async () => {
  for (let hops = 0; hops < 8; hops += 1) {
    let bring!: (headers: Record<string, string>) => void;
    const brought = new Promise<Record<string, string>>((done) => (bring = done));
    const asked: AbortSignal[] = [];
    const client = createClient({
      url: 'http://scripted.invalid',
      headers: () => brought,
      fetch: (_, { signal }) => {
        asked.push(signal);
        return new Promise((__, refuse) => {
          signal.addEventListener('abort', () => refuse(signal.reason as Error));
        });
      },
    });
    const subscription = client.subscribe('a');
    await new Promise((done) => setImmediate(done));
    bring({});
    for (let hop = 0; hop < hops; hop += 1) await Promise.resolve();
    subscription.close();
    await new Promise((done) => setImmediate(done));
    expect(
      asked.filter(({ aborted }) => !aborted),
      `${hops} microtasks later`,
    ).toEqual([]);
    await client.close();
  }
});

test('who left before it was attached is not read for, however that came', () => {
  const { fetch, attempts } = scriptEvents();
  const lines = new Lines(settingsOf({ url: 'http://scripted.invalid', fetch }), () => {});
  const subscriber = new Subscriber({ streams: ['a'], after: 'end', presence: undefined }, () => {});
  subscriber.close();
  lines.attach(subscriber);
  expect([lines.all.size, attempts.length]).toEqual([0, 0]);
});

test('an address that is none is told to whoever subscribes', () => {
  const asked: string[] = [];
  const open = (url: string): Client =>
    createClient({
      url,
      fetch: async (address) => {
        asked.push(address);
        return new Response();
      },
    });
  for (const url of ['/v1/events', 'http://[', '']) {
    const client = open(url); // on a server a page's address is made, and never asked
    expect(() => client.subscribe('a'), url).toThrow(TypeError);
    expect(client.status.get().state).toBe('idle');
  }
  expect(asked).toEqual([]);
});

test('I7: broadcasts count for what they weigh', () => {
  const feed = createFeed('room', 'end');
  const subscriber = new Subscriber({ streams: ['room'], after: 'end', presence: undefined }, () => {});
  feed.subscribers.add(subscriber);
  const data = JSON.stringify({ stream: 'room', type: null, data: 'x'.repeat(64 * 1024) });
  let sent = 0;
  for (; !subscriber.full; sent += 1)
    dispatch({ event: 'sluice:broadcast', data }, [feed], new Map([['room', feed]]), undefined);
  expect(sent).toBeLessThan(100);
});

test('a cursor of another stream parts two streams only until each stands somewhere', async () => {
  const { client, attempt, attempts } = scriptEvents();
  client.subscribe('a');
  const first = await attempt(0);
  first.open({ a: 9 });
  first.id(at(9));
  await until(() => client.status.get().state === 'live');
  client.subscribe('b', { after: at(5) }); // a position in `a`
  const both = await attempt(1);
  expect([both.streams, both.lastEventId]).toEqual([['a', 'b'], `${at(9)}.${at(5)}`]);
  both.answer(400, { code: 'cursor_invalid' });
  for (const index of [2, 3]) {
    const each = await attempt(index);
    const [stream] = each.streams;
    each.open({ [stream!]: stream === 'a' ? 9 : 4 });
    each.id(stream === 'a' ? at(9) : at(4, 2));
  }
  await until(() => attempts.at(-1)!.streams.length === 2);
  expect(attempts.at(-1)!.lastEventId?.split('.').toSorted()).toEqual([at(9), at(4, 2)]);
});
