// Guards what tabs do for each other when things happen in an order that a browser rarely shows: whoever leads, every
// subscription has every event once (I2) and hears of every loss (I8).
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import type { ClientOptions, StreamItem } from 'sluice/client';
import { Lines } from '../../src/client/lines.ts';
import { Subscriber } from '../../src/client/subscriber.ts';
import { Leading } from '../../src/client/tabs/leading.ts';
import { until } from '../support/diagnostics.ts';
import { at, scriptEvents, type ScriptedEvents } from '../support/scripted-events.ts';
import { useTabs } from '../support/scripted-tabs.ts';
import { collect } from '../support/stream-reader.ts';
import { upTo } from '../support/up-to.ts';

const locks = useTabs();
let group: string;
let groups = 0;
beforeEach(() => {
  group = `tabs ${(groups += 1)}`;
  locks.news = undefined;
  locks.refuse = false;
});
const openTab = (options: Partial<ClientOptions> = {}): ScriptedEvents =>
  scriptEvents({ shareAcrossTabs: group, ...options });
const kindsOf = ({ items }: ReturnType<typeof collect>): string[] => items.map(({ kind }) => kind);

/** One that leads, and one that follows it. */
const openTwo = async (options: Partial<ClientOptions> = {}): Promise<[ScriptedEvents, ScriptedEvents]> => {
  const leader = openTab(options);
  leader.client.subscribe('first');
  (await leader.attempt(0)).open({ first: 0 });
  (await leader.attempt(0)).id(at(0));
  const follower = openTab(options);
  await until(() => follower.client.status.get().state === 'live');
  return [leader, follower];
};

test('I8: a follower hears of a loss where it begins', async () => {
  const [leader, follower] = await openTwo();
  const subscription = follower.client.subscribe(['a', 'b'], { after: 3n });
  const reader = collect(subscription);
  const line = await leader.attempt(1);
  expect(line.streams).toEqual(['first', 'a', 'b']);
  line.open({ first: 0, a: 9, b: 9 });
  const loss = { reason: 'trimmed', requested: '3', oldest: '6', head: '9' };
  line.tell('sluice:gap', { ...loss, stream: 'a', resumedAt: at(5, 2) });
  line.id(`${at(0)}.${at(5, 2)}.${at(3, 3)}`);
  await subscription.ready;
  line.event('b', 4, `${at(0)}.${at(5, 2)}.${at(4, 3)}`);
  await reader.received(1);
  expect(kindsOf(reader)).toEqual(['gap', 'event']);
  expect(reader.items[0]).toMatchObject({ stream: 'a', cursor: `${at(5, 2)}.${at(3, 3)}` });
});

test('I2: a stream that is missing keeps a follower from no event of another, nor brings one twice', async () => {
  const [leader, follower] = await openTwo();
  const reader = collect(follower.client.subscribe(['a', 'b'], { after: 'start' }));
  (await leader.attempt(1)).answer(404);
  await until(() => leader.attempts.some(({ streams }) => streams.join() === 'first,a'));
  const line = leader.attempts.find(({ streams }) => streams.join() === 'first,a')!;
  line.open({ first: 0, a: 1 });
  line.id(`${at(0)}.${at(0, 2)}`);
  line.event('a', 1, `${at(0)}.${at(1, 2)}`);
  await reader.received(1);
  await until(() => leader.attempts.filter(({ streams }) => streams.join() === 'b').length > 0);
  await leader.client.close();
  const next = await follower.attempt(0);
  expect(next.lastEventId).toBe(at(1, 2));
});

test('I2: a leader whose lock is taken follows as soon as it knows, and never shows itself closed', async () => {
  const name = `sluice http://scripted.invalid/v1/events ${group}`;
  const [former, next] = await openTwo();
  const states: string[] = [];
  former.client.status.subscribe(() => states.push(former.client.status.get().state));
  const reader = collect(former.client.subscribe('a'));
  const before = await former.attempt(1);
  before.open({ first: 0, a: 0 });
  before.id(`${at(0)}.${at(0, 2)}`);
  next.client.subscribe('b');
  await former.attempt(2);
  const channel = new BroadcastChannel(name);
  onTestFinished(() => channel.close());
  const heard: string[] = [];
  channel.addEventListener('message', (event) =>
    heard.push((event as Event & { readonly data: { readonly kind: string } }).data.kind),
  );
  locks.news = [];
  await locks.request(name, { steal: true }, async () => {});
  await next.attempt(0);
  await until(() => heard.filter((kind) => kind === 'leader').length > 1);
  for (const tell of locks.news) tell();
  await until(() => next.attempts.some(({ streams }) => streams.includes('a')));
  const line = next.attempts.at(-1)!;
  const { streams } = line;
  line.open(Object.fromEntries(streams.map((stream) => [stream, 0])));
  const cursor = (offset: number): string => streams.map((_, index) => at(offset, index + 1)).join('.');
  line.id(cursor(0));
  line.event('a', 1, cursor(1));
  await reader.received(1);
  expect(states).not.toContain('closed');
});

test('I2: what a former leader still delivers comes to nobody who reads elsewhere', async () => {
  const name = `sluice http://scripted.invalid/v1/events ${group}`;
  const hear = (name: string): Record<string, unknown>[] => {
    const channel = new BroadcastChannel(name);
    onTestFinished(() => channel.close());
    const heard: Record<string, unknown>[] = [];
    channel.addEventListener('message', (event) =>
      heard.push((event as Event & { readonly data: Record<string, unknown> }).data),
    );
    return heard;
  };
  const [former, next] = await openTwo();
  const all = hear(name);
  const subscription = next.client.subscribe('a', { after: 'start' });
  const reader = collect(subscription);
  const before = await former.attempt(1);
  const delivered = hear(`${name} ${String(all.find(({ kind }) => kind === 'subscribe')?.['tab'])}`);
  before.open({ first: 0, a: 0 });
  before.id(`${at(0)}.${at(0, 2)}`);
  await subscription.ready;
  locks.news = [];
  await locks.request(name, { steal: true }, async () => {});
  const line = await next.attempt(0);
  before.event('a', 1, `${at(0)}.${at(1, 2)}`);
  await until(() => delivered.some(({ items }) => (items as unknown[]).length === 1));
  line.open({ a: 0 });
  line.id(at(0, 2));
  for (const offset of [1, 2]) line.event('a', offset, at(offset, 2));
  await until(() => reader.offsets.includes(2));
  expect(reader.offsets).toEqual([1, 2]);
});

test('I2: a page that is refused its locks reads by itself', async () => {
  locks.refuse = true;
  const { client, attempt } = openTab();
  const reader = collect(client.subscribe('a'));
  const line = await attempt(0);
  line.open({ a: 0 });
  line.id(at(0));
  line.event('a', 1);
  await reader.received(1);
  await client.close();
  await until(() => line.isOver && client.status.get().state === 'closed');
});

test('I2: a subscription that ends at the leader has what came before, and is told why', async () => {
  const [leader, follower] = await openTwo();
  const subscription = follower.client.subscribe('a', { after: 'start' });
  const line = await leader.attempt(1);
  line.open({ first: 0, a: 2 });
  line.id(`${at(0)}.${at(0, 2)}`);
  await subscription.ready;
  line.event('a', 1, `${at(0)}.${at(1, 2)}`);
  await until(() => subscription.cursor === at(0, 2));
  const own = leader.client.subscribe('first', { after: at(0) });
  const first = collect(own);
  await own.ready;
  line.event('a', 2, `${at(0)}.${at(2, 2)}`);
  line.event('first', 1, `${at(1)}.${at(2, 2)}`);
  await first.received(1);
  line.cut();
  (await leader.attempt(2)).answer(400);
  await until(() => leader.attempts.length === 5);
  const parts = leader.attempts.slice(3);
  parts.find(({ streams }) => streams[0] === 'a')!.answer(400, { code: 'cursor_invalid', detail: 'no' });
  await until(() => leader.client.status.get().connections.length === 1);
  const reader = collect(subscription);
  await until(() => reader.over !== undefined);
  expect(reader.offsets).toEqual([1, 2]);
  expect(reader.over).toMatchObject({ code: 'cursor_invalid', message: 'no' });
});

test('I2: whoever holds the lead without a word loses it, and no request for it is left behind', async () => {
  const name = `sluice http://scripted.invalid/v1/events ${group}`;
  const hold = (steal: boolean): void =>
    void locks.request(name, { steal }, () => new Promise(() => {})).catch(() => {});
  hold(false);
  const tab = openTab({ watchdogMs: 60 });
  tab.client.subscribe('a');
  for (const index of [0, 1]) {
    await tab.attempt(index);
    expect(locks.waiting(name)).toBe(0);
    hold(true);
  }
  await tab.attempt(2);
  expect(locks.waiting(name)).toBe(0);
});

test('a leader that steps down does not wait for tabs any more', async () => {
  const [leader, follower] = await openTwo();
  follower.client.subscribe('a');
  await leader.attempt(1);
  expect(locks.all()).toBe(2); // for the lead, and for the end of the follower
  await leader.client.close();
  await follower.attempt(0);
  expect(locks.all()).toBe(0);
});

test('I7: a leader that wakes up and speaks once more leaves nothing behind at the one that leads', async () => {
  const [leader, follower] = await openTwo();
  const channel = new BroadcastChannel(`sluice http://scripted.invalid/v1/events ${group}`);
  onTestFinished(() => channel.close());
  const heard: { readonly kind: string; readonly leader?: string }[] = [];
  channel.addEventListener('message', (event) => heard.push((event as Event & { data: never }).data));
  const wishes = (): (string | undefined)[] =>
    heard.filter(({ kind }) => kind === 'subscribe').map(({ leader }) => leader);
  const subscription = follower.client.subscribe('a');
  const line = await leader.attempt(1);
  line.open({ first: 0, a: 0 });
  line.id(`${at(0)}.${at(0, 2)}`);
  await subscription.ready;
  channel.postMessage({ kind: 'leader', tab: 'thawed', status: follower.client.status.get() });
  await until(() => wishes().includes('thawed'));
  channel.postMessage({ kind: 'hello', tab: 'thawed' });
  await until(() => wishes().length === 3);
  subscription.close();
  const { status } = leader.client;
  await until(
    () =>
      status
        .get()
        .connections.flatMap(({ streams }) => streams)
        .join() === 'first',
  );
});

test('I2: a connection that tabs share has no name by which all of them could be left out', async () => {
  const ids = ({ client }: ScriptedEvents): unknown[] => client.status.get().connections.map(({ id }) => id);
  const [leader, follower] = await openTwo();
  await follower.client.subscribe('first').ready; // so its connection has been given a name
  expect([ids(leader), ids(follower)]).toEqual([[null], [null]]);
});

test('who leads after others shows what it has, not what they had', async () => {
  const [leader, follower] = await openTwo();
  await leader.client.close();
  await until(() => follower.client.status.get().state !== 'live');
  expect(follower.client.status.get()).toMatchObject({ state: 'idle', connections: [] });
});

// Something comes between taking a batch and handing it on, so many turns of waiting promises after it was asked for.
test.each(upTo(4))('I2: a follower never stands beyond what it was given, turn %i', async (turns) => {
  const posted: { readonly items: readonly StreamItem[]; readonly positions: readonly unknown[] }[] = [];
  const channel = {
    postMessage: (delivery: never) => void posted.push(delivery),
    addEventListener: () => {},
    close: () => {},
  };
  let subscriber!: Subscriber;
  const carrier = {
    attach: (each: Subscriber) => void (subscriber = each),
    detach: () => {},
    close: () => {},
  };
  const hub = { name: '', silenceMs: 1, locks, open: () => channel, createId: () => '' };
  const parts = { Subscriber, Lines, errorOf: () => new Error(), createCarrier: () => carrier };
  void locks.request(' tab', {}, () => new Promise(() => {}));
  const leading = new Leading({ ...hub, ...parts }, carrier);
  const wanted = { id: 'id', streams: ['a'], after: 'end', positions: [], presence: undefined };
  leading.take({ kind: 'subscribe', tab: 'tab', leader: 'leader', wanted });
  const bring = (offset: number): void =>
    subscriber.take('a', at(offset), { kind: 'event', stream: 'a', offset: BigInt(offset) } as StreamItem);
  subscriber.take('a', at(0));
  bring(1);
  await until(() => posted.some(({ items }) => items.length === 1));
  bring(2);
  leading.take({ kind: 'taken', tab: 'tab', id: 'id' });
  for (let turn = 0; turn < turns; turn += 1) await Promise.resolve();
  bring(3);
  await until(() => posted.flatMap(({ items }) => items).length >= 2);
  for (const { items, positions } of posted) {
    const [last] = items.slice(-1) as { readonly cursor: string }[];
    if (last) expect(positions).toEqual([last.cursor]);
  }
  leading.close();
});
