// Guards I10 on the wire: who may not see an event gets nothing of it, replayed or live, by whichever way it was
// written; what is hidden holds nobody up, costs no frame each, and need not be looked at again after a reconnect.
import { connect, type PublishOptions, type Sluice } from 'sluice';
import type { Authorize, HandlerOptions } from 'sluice/http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { nextMessage } from '../support/diagnostics.ts';
import { serve, type Serving } from '../support/serve.ts';
import { openSse, type OpenOptions, type SseClient } from '../support/sse.ts';

const db = useDatabase();
let sluice: Sluice;
/** No heartbeat falls into a test: what is on the wire is there for another reason. */
let serving: Serving;
/** One falls into every test. */
let beating: Serving;

interface Context {
  readonly role: string;
}
const authorize: Authorize = (request) => {
  const role = request.headers.get('x-role') ?? 'viewer';
  const visible = role === 'picky' ? ({ key }: { key: string | null }): boolean => key === 'mine' : undefined;
  return Promise.resolve({ principal: role, context: { role } satisfies Context, visible });
};
const options: Partial<HandlerOptions> = {
  authorize,
  audiences: {
    admins: (context) => (context as Context).role === 'admin',
    raising: () => (undefined as unknown as Context).role === 'admin',
  },
};

beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString, fallbackPollMs: 30, windowEvents: 50 });
  serving = await serve(sluice, { ...options, limits: { heartbeatMs: 600_000 } });
  beating = await serve(sluice, { ...options, limits: { heartbeatMs: 20 } });
});
afterAll(async () => {
  await serving[Symbol.asyncDispose]();
  await beating[Symbol.asyncDispose]();
  await sluice.close();
});

let names = 0;
const newStream = async (): Promise<string> => {
  const name = `audience ${(names += 1)}`;
  await sluice.createStream(name);
  return name;
};
const as = (role: string): OpenOptions => ({ headers: { 'x-role': role } });
const opened = async (client: SseClient): Promise<string> => {
  await client.opened();
  const [open] = client.control('open') as [{ connectionId: string }];
  return open.connectionId;
};
const headCursor = async (name: string): Promise<string> =>
  (await sluice.stream(name).read({ after: 'end' })).cursor;
/** Everything that came: offsets of events, ids that came alone, and the names of the rest. */
const story = ({ frames }: SseClient): unknown[] =>
  frames
    .filter(({ retry, comment }) => retry === undefined && comment === undefined)
    .map(({ event, data }) => event ?? (data === undefined ? 'id' : Number(offsetOf(data))));
const offsetOf = (data: string): string => (JSON.parse(data) as { offset: string }).offset;

const admins: PublishOptions = { visibleTo: 'admins' };

describe('I10: a label', () => {
  test('an admin sees what a viewer does not, live and replayed, appended and published', async () => {
    const name = await newStream();
    const stream = sluice.stream(name);
    using liveAdmin = await openSse(serving.url(name), as('admin'));
    using liveViewer = await openSse(serving.url(name), as('viewer'));
    await Promise.all([opened(liveAdmin), opened(liveViewer)]);
    await stream.append('public');
    await stream.append('secret', admins);
    await stream.appendMany([{ data: 'public' }, { data: 'secret', visibleTo: 'admins' }]);
    await stream.publish('secret', admins);
    await stream.publishMany([{ data: 'secret' }, { data: 'secret' }], admins);
    await stream.publish('secret', { ...admins, delayMs: 1, idempotencyKey: 'k' });
    await liveAdmin.received(8);
    await db.query(`select sluice.publish($1, '"secret"', p_visible_to => 'admins')`, [name]);
    await db.query(`select sluice.append($1, '"secret"', p_visible_to => 'admins')`, [name]);
    await stream.append('public');
    await liveAdmin.received(11);
    await liveViewer.received(3);
    using admin = await openSse(serving.url(name, 'after=start'), as('admin'));
    using viewer = await openSse(serving.url(name, 'after=start'), as('viewer'));
    using bare = await openSse(serving.url(name, 'after=start&format=data'), as('viewer'));
    await Promise.all([admin.received(11), viewer.received(3), bare.received(3)]);
    for (const client of [liveAdmin, admin]) {
      expect(client.offsets).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    }
    for (const client of [liveViewer, viewer]) expect(story(client)).toEqual(['sluice:open', 'id', 1, 3, 11]);
    expect(bare.events.map(({ data }) => data)).toEqual(['"public"', '"public"', '"public"']);
    for (const client of [liveViewer, viewer, bare]) {
      expect(JSON.stringify(client.frames)).not.toMatch(/secret|admins/);
    }
  });

  test('the label itself is on no wire', async () => {
    const name = await newStream();
    await sluice.stream(name).append(1, { ...admins, exclude: '00000000-0000-4000-8000-000000000000' });
    using admin = await openSse(serving.url(name, 'after=start'), as('admin'));
    await admin.received(1);
    expect(JSON.parse(admin.events[0]?.data ?? '')).toEqual({
      stream: name,
      offset: '1',
      type: null,
      key: null,
      data: 1,
      at: expect.any(String),
    });
  });

  test('unknown: nobody sees it', async () => {
    const name = await newStream();
    using admin = await openSse(serving.url(name), as('admin'));
    await opened(admin);
    for (const visibleTo of ['unknown', 'constructor', '__proto__']) {
      await sluice.stream(name).append('secret', { visibleTo });
    }
    await sluice.stream(name).append('public');
    using replayed = await openSse(serving.url(name, 'after=start'), as('admin'));
    await Promise.all([admin.received(1), replayed.received(1)]);
    expect(admin.offsets).toEqual([4]);
    expect(replayed.offsets).toEqual([4]);
  });

  test('raising: hidden from everybody, and reported; the connection goes on', async () => {
    const name = await newStream();
    using admin = await openSse(serving.url(name), as('admin'));
    await opened(admin);
    const reported = nextMessage<{ where: string }>(
      'sluice:background.failed',
      ({ where }) => where === 'audience',
    );
    await sluice.stream(name).append('secret', { visibleTo: 'raising' });
    expect(await reported).toEqual({ where: 'audience', label: 'raising', error: expect.any(TypeError) });
    await sluice.stream(name).append('public');
    await admin.received(1);
    expect(admin.offsets).toEqual([2]);
  });

  test('a handler without audiences shows what is for everybody', async () => {
    const name = await newStream();
    await sluice.stream(name).append('secret', admins);
    await sluice.stream(name).append('public');
    await using plain = await serve(sluice);
    using client = await openSse(plain.url(name, 'after=start'), as('admin'));
    await client.received(1);
    expect(client.offsets).toEqual([2]);
  });

  test('a grant of its own decides too, on replay and live', async () => {
    const name = await newStream();
    const stream = sluice.stream(name);
    await stream.appendMany([{ data: 1, key: 'mine' }, { data: 2, key: 'yours' }, { data: 3 }]);
    using picky = await openSse(serving.url(name, 'after=start'), as('picky'));
    await picky.received(1);
    await stream.appendMany([
      { data: 4, key: 'yours' },
      { data: 5, key: 'mine', visibleTo: 'admins' },
      { data: 6, key: 'mine' },
    ]);
    await picky.received(2);
    expect(picky.offsets).toEqual([1, 6]);
  });
});

describe('I10: what is hidden', () => {
  /** `count` events that a viewer does not see, in batches. */
  const hide = async (name: string, count: number): Promise<void> => {
    for (let left = count; left > 0; left -= 100) {
      const data = Array.from({ length: Math.min(left, 100) }, () => ({ data: 'secret' }));
      await sluice.stream(name).appendMany(data, admins);
    }
  };

  test('starves nobody of what comes after it, out of the window or live, and writes no frame', async () => {
    const name = await newStream();
    await hide(name, 1500); // more than a page, and more than the window
    using behind = await openSse(serving.url(name, 'after=start'));
    using live = await openSse(serving.url(name));
    await Promise.all([opened(behind), opened(live)]);
    await hide(name, 500);
    await sluice.stream(name).append('public');
    await Promise.all([behind.received(1), live.received(1)]);
    expect(story(behind)).toEqual(['sluice:open', 'id', 2001]);
    expect(story(live)).toEqual(['sluice:open', 'id', 2001]);
  });

  test('moves the id with the next heartbeat, on a quiet connection and on a new one', async () => {
    const name = await newStream();
    using viewer = await openSse(beating.url(name));
    await opened(viewer);
    await sluice.stream(name).append('public');
    await viewer.received(1);
    await hide(name, 250);
    const scanned = await headCursor(name);
    await viewer.until(({ lastEventId }) => lastEventId === scanned);
    expect(viewer.offsets).toEqual([1]);
    using late = await openSse(beating.url(name, 'after=start'));
    await late.until(({ lastEventId }) => lastEventId === scanned);
    expect(late.offsets).toEqual([1]);
    // Idle again: nothing has moved, so heartbeats are comments.
    const told = late.frames.length;
    await late.until(({ frames }) => frames.slice(told).some(({ comment }) => comment !== undefined));
    expect(late.frames.slice(told).filter(({ id }) => id !== undefined)).toEqual([]);
  });

  test('is not looked at again after a resume, and its cursor reveals nothing', async () => {
    const name = await newStream();
    await hide(name, 3);
    const onHidden = (await sluice.stream(name).read({ after: 1n, limit: 1 })).cursor;
    const scanned = await headCursor(name);
    await sluice.stream(name).append('public');
    // With the id of an id-only frame: there is nothing hidden left to pass.
    using resumed = await openSse(serving.url(name), { lastEventId: scanned });
    // With the cursor of an event it was never sent, in the midst of others.
    using inside = await openSse(serving.url(name), { lastEventId: onHidden });
    await Promise.all([resumed.received(1), inside.received(1)]);
    expect(resumed.frames.find(({ id }) => id !== undefined)).toEqual({ id: scanned });
    for (const client of [resumed, inside]) expect(story(client)).toEqual(['sluice:open', 'id', 4]);
  });

  test('of one stream moves the id of a connection of several, with the next event of another or a heartbeat', async () => {
    const [one, two] = [await newStream(), await newStream()];
    const both = `stream=${encodeURIComponent(two)}`;
    using viewer = await openSse(serving.url(one, both));
    await opened(viewer);
    await sluice.stream(one).append('public');
    await viewer.received(1);
    await sluice.stream(one).appendMany([{ data: 'secret', ...admins }, { data: 'public' }]);
    await hide(one, 3);
    await sluice.stream(two).append('public');
    await viewer.received(3);
    expect(viewer.offsets).toEqual([1, 3, 1]);
    expect(viewer.lastEventId.split('.')).toEqual([await headCursor(one), await headCursor(two)]);
    using resumed = await openSse(beating.url(one, both), { lastEventId: viewer.lastEventId });
    await hide(two, 2);
    const scanned = [await headCursor(one), await headCursor(two)].join('.');
    await resumed.until(({ lastEventId }) => lastEventId === scanned);
    expect(resumed.events).toEqual([]);
  });

  test('moves the id before a shutdown', async () => {
    const name = await newStream();
    const closing = await serve(sluice, { ...options, limits: { heartbeatMs: 600_000 } });
    using viewer = await openSse(closing.url(name));
    await opened(viewer);
    const read = nextMessage<{ stream: string }>('sluice:tail.woken', ({ stream }) => stream === name);
    await hide(name, 1);
    await read;
    await closing.handler.close();
    await viewer.ended();
    expect(story(viewer)).toEqual(['sluice:open', 'id', 'id', 'sluice:shutdown']);
    expect(viewer.lastEventId).toBe(await headCursor(name));
    await closing[Symbol.asyncDispose]();
  });

  test('I8, I9: in a history that is gone, it never moves the id back there', async () => {
    const name = await newStream();
    const closing = await serve(sluice, { ...options, limits: { heartbeatMs: 600_000 } });
    using viewer = await openSse(closing.url(name));
    await opened(viewer);
    const read = nextMessage<{ stream: string }>('sluice:tail.woken', ({ stream }) => stream === name);
    await hide(name, 3);
    await read;
    // A failover lost them.
    await db.query(
      'delete from sluice.events e using sluice.streams s where s.id = e.stream_id and s.name = $1',
      [name],
    );
    await viewer.until((client) => client.control('reset').length > 0);
    const start = await headCursor(name);
    await closing.handler.close();
    await viewer.ended();
    expect(story(viewer)).toEqual(['sluice:open', 'id', 'sluice:reset', 'id', 'sluice:shutdown']);
    expect(viewer.lastEventId).toBe(start);
    await closing[Symbol.asyncDispose]();
  });
});

describe('exclude', () => {
  test('the actor is spared the echo on its connection, a bystander and its own other one are not', async () => {
    const name = await newStream();
    using actor = await openSse(serving.url(name));
    using otherTab = await openSse(serving.url(name));
    const [id] = await Promise.all([opened(actor), opened(otherTab)]);
    const stream = sluice.stream(name);
    await stream.append(1, { exclude: id });
    await stream.publish(2, { exclude: id.toUpperCase() });
    await stream.appendMany([{ data: 3 }, { data: 4, exclude: null }], { exclude: id });
    await otherTab.received(4);
    await db.query(`select sluice.publish($1, '5', p_exclude => $2)`, [name, id]);
    await stream.append(6);
    await Promise.all([actor.until(({ offsets }) => offsets.at(-1) === 6), otherTab.received(6)]);
    expect(actor.offsets).toEqual([6]);
    expect(otherTab.offsets).toEqual([1, 2, 3, 4, 5, 6]);
  });

  test('it is for one connection: who comes back with an older id gets what it had not passed', async () => {
    const name = await newStream();
    using actor = await openSse(serving.url(name));
    const id = await opened(actor);
    const before = actor.lastEventId;
    await sluice.stream(name).append(1, { exclude: id });
    using again = await openSse(serving.url(name), { lastEventId: before });
    await again.received(1);
    expect(again.offsets).toEqual([1]);
    expect(await opened(again)).not.toBe(id);
  });

  test('it does not come back to who has passed it', async () => {
    const name = await newStream();
    using actor = await openSse(beating.url(name));
    const id = await opened(actor);
    await sluice.stream(name).append(1, { exclude: id });
    const passed = await headCursor(name);
    await actor.until(({ lastEventId }) => lastEventId === passed);
    await sluice.stream(name).append(2);
    using again = await openSse(beating.url(name), { lastEventId: actor.lastEventId });
    await again.received(1);
    expect(again.offsets).toEqual([2]);
  });
});

test('I10: an answer of authorize whose visible is no plain function opens nothing', async () => {
  const name = await newStream();
  for (const visible of [true, 'admins', async () => true]) {
    const odd = (() => Promise.resolve({ principal: null, visible })) as unknown as Authorize;
    await using serving = await serve(sluice, { authorize: odd });
    expect((await fetch(serving.url(name))).status).toBe(500);
  }
});
