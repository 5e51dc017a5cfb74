// Guards `bus.listen` on a real server: a handler is called for what is committed from when LISTEN is in force, told where a
// session was replaced, disturbs nobody by what it does, and is not called any more once it is closed, in any way.
import { connect, createNotifyBus, type NotifyBus, type NotifyBusOptions } from 'sluice';
import { describe, expect, test, vi } from 'vitest';
import { z } from 'zod';
import { useDatabase } from '../support/database.ts';
import { targetOf, through } from '../support/deaf-proxy.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { Notices, notifyAll } from '../support/notices.ts';
import { createProxy } from '../support/proxy.ts';

const db = useDatabase();

const open = (options: NotifyBusOptions = {}): NotifyBus =>
  createNotifyBus({ connectionString: db.connectionString, heartbeatMs: 50, ...options });

const send = async (channel: string, ...payloads: string[]): Promise<void> =>
  notifyAll(db, channel, payloads);

/** Channel `end`, with a subscription that tells when all that was sent has been handed out. */
const following = async (bus: NotifyBus): Promise<() => Promise<void>> => {
  const end = new Notices(await bus.subscribe('end'));
  let sent = 0;
  return async () => {
    sent += 1;
    await send('end', String(sent));
    await until(() => end.payloads.length === sent);
  };
};

const upTo = (count: number): string[] => Array.from({ length: count }, (_, n) => String(n + 1));

test('I4: what is committed from when it resolves is given, in order, over any number of listeners and subscriptions', async () => {
  await using bus = open();
  const calls: string[][] = [[], [], []];
  const listeners = await Promise.all(
    calls.map((into) =>
      bus.listen('a', (notice) => into.push(notice.kind === 'message' ? notice.payload : notice.kind)),
    ),
  );
  const subscription = new Notices(await bus.subscribe('a', { buffer: 1000 }));
  await send('a', ...upTo(300));
  await until(() => subscription.all.length === 300);
  expect(calls).toEqual([upTo(300), upTo(300), upTo(300)]);
  expect(listeners.map(({ channel }) => channel)).toEqual(['a', 'a', 'a']);
  expect(bus.channels).toEqual(['a']);
  expect(bus.stats()).toMatchObject({ channels: 1, subscriptions: 4, messages: 1200, missed: 0, failed: 0 });
  for (const listener of listeners) await listener.close();
  expect(bus.stats().subscriptions).toBe(1);
  await send('a', 'later');
  await until(() => subscription.all.length === 301);
  expect(calls[0]?.length).toBe(300);
});

test('it is not called before `listen` has resolved, so that its caller has the listener in hand', async () => {
  await using bus = open();
  const settled = await following(bus);
  await bus.subscribe('busy'); // LISTEN is in force, and messages are on their way
  for (let round = 0; round < 20; round += 1) {
    const sending = send('busy', ...upTo(20));
    let resolved = false;
    const early: unknown[] = [];
    const listener = await bus.listen('busy', (notice) => {
      if (!resolved) early.push(notice);
    });
    resolved = true;
    await sending;
    await settled();
    expect(early).toEqual([]);
    await listener.close();
  }
});

test('a long name and a schema: the data is given, what does not fit is skipped and reported', async () => {
  await using bus = open();
  const channel = '日本語'.repeat(30);
  const ids: number[] = [];
  const malformed = nextMessage<{ channel: string }>('sluice:bus.malformed');
  await bus.listen(channel, (notice) => notice.kind === 'message' && ids.push(notice.data.id), {
    schema: z.object({ id: z.int() }),
  });
  for (const payload of ['{"id":1}', 'none', '{"id":2}']) await bus.notify(channel, payload);
  await until(() => ids.length === 2);
  expect(ids).toEqual([1, 2]);
  expect((await malformed).channel).toBe(channel);
  expect(bus.stats()).toMatchObject({ messages: 3, malformed: 1 });
});

test('N14: handlers that throw and reject for each of thousands of messages disturb nobody, and fill no log', async () => {
  const error = vi.fn();
  await using bus = open({ logger: { debug() {}, info() {}, warn() {}, error } });
  const calls = { throwing: 0, rejecting: 0, after: [] as string[] };
  const failed = nextMessage('sluice:bus.failed');
  await bus.listen('faulty', () => {
    calls.throwing += 1;
    throw new Error('thrown');
  });
  const rejecting = (): unknown => {
    calls.rejecting += 1;
    return Promise.reject(new Error('rejected'));
  };
  await bus.listen('faulty', rejecting);
  await bus.listen('faulty', (notice) => notice.kind === 'message' && calls.after.push(notice.payload));
  const subscription = new Notices(await bus.subscribe('faulty', { buffer: 5000 }));
  await send('faulty', ...upTo(3000));
  await until(() => subscription.all.length === 3000 && bus.stats().failed === 6000);
  expect(calls).toEqual({ throwing: 3000, rejecting: 3000, after: upTo(3000) });
  expect(subscription.unmarked(3000)).toEqual([]);
  expect(await failed).toEqual({ channel: 'faulty', error: new Error('thrown') });
  expect(error.mock.calls).toEqual([
    [{ channel: 'faulty', error: new Error('thrown'), failures: 1 }, expect.stringMatching(/handler/)],
  ]);
  expect(bus.generation).toBe(1);
});

describe('N13: ending in the middle of messages that have arrived together', () => {
  test.each<[string, (ends: { close: () => void; abort: () => void; bus: NotifyBus }) => void]>([
    ['closed by its handler', ({ close }) => close()],
    ['its signal aborted by its handler', ({ abort }) => abort()],
    ['the bus closed by its handler', ({ bus }) => void bus.close()],
  ])('%s', async (_, end) => {
    await using bus = open();
    await using others = open();
    const heard = new Notices(await others.subscribe('ending', { buffer: 1000 }));
    const abort = new AbortController();
    const calls: string[] = [];
    const listener = await bus.listen(
      'ending',
      (notice) => {
        calls.push(notice.kind === 'message' ? notice.payload : notice.kind);
        if (calls.length === 3) end({ close: () => void listener.close(), abort: () => abort.abort(), bus });
      },
      { signal: abort.signal },
    );
    const beside: string[] = [];
    await bus.listen('ending', (notice) => notice.kind === 'message' && beside.push(notice.payload));
    const subscription = new Notices(await bus.subscribe('ending', { buffer: 1000 }));
    await send('ending', ...upTo(100));
    await until(() => heard.all.length === 100);
    if (bus.stats().state === 'closed') {
      await subscription.ended;
      expect(beside).toEqual(upTo(2)); // no call to anybody
      expect(bus.stats().subscriptions).toBe(0);
    } else {
      await until(() => subscription.all.length === 100);
      expect(beside).toEqual(upTo(100));
      expect(bus.stats().subscriptions).toBe(2);
    }
    expect(calls).toEqual(upTo(3));
  });

  test('the bus closed by a handler that is told of a gap: closing ends, and nothing more is called', async () => {
    using proxy = await createProxy(targetOf(db.connectionString));
    const bus = open({ connectionString: through(proxy, db.connectionString) });
    const calls: string[] = [];
    let closing: Promise<void> | undefined;
    await bus.listen('gone', (notice) => {
      calls.push(notice.kind);
      closing = bus.close();
    });
    await bus.listen('gone', (notice) => calls.push(`too late: ${notice.kind}`));
    proxy.cut();
    await until(() => closing !== undefined);
    await closing;
    expect(calls).toEqual(['gap']);
    expect(bus.stats().state).toBe('closed');
    await until(() => proxy.connections === 0);
  });

  test('all of Sluice closed by a handler', async () => {
    const sluice = await connect({ connectionString: db.connectionString });
    let closing: Promise<void> | undefined;
    await sluice.bus.listen('last', () => {
      closing = sluice.close();
    });
    await send('last', '1');
    await until(() => closing !== undefined);
    await closing;
  });
});

test('N12: a handler that begins others of its channel: they have what comes next, and are not called in between', async () => {
  await using bus = open();
  const calls: string[] = [];
  const begun: Promise<unknown>[] = [];
  await bus.listen('more', (notice) => {
    if (notice.kind !== 'message' || begun.length > 0) return;
    const { payload } = notice;
    begun.push(
      bus.listen('more', (each) => each.kind === 'message' && calls.push(`${payload} > ${each.payload}`)),
    );
    begun.push(bus.subscribe('more').then((each) => new Notices(each)));
  });
  await send('more', 'first');
  await until(() => begun.length === 2);
  const notices = (await Promise.all(begun))[1] as Notices;
  await send('more', 'second');
  await until(() => notices.all.length > 0);
  expect(calls).toEqual(['first > second']);
  expect(notices.payloads).toEqual(['second']);
});

test('I8: a gap stands between the messages of two sessions, for listeners as for subscriptions', async () => {
  using proxy = await createProxy(targetOf(db.connectionString));
  await using bus = open({ connectionString: through(proxy, db.connectionString) });
  const calls: string[] = [];
  await bus.listen('torn', (notice) => {
    calls.push(notice.kind === 'message' ? notice.payload : `gap ${notice.generation}`);
    throw new Error('all the same');
  });
  const subscription = new Notices(await bus.subscribe('torn'));
  await send('torn', '1', '2');
  await until(() => subscription.all.length === 2);
  const lost = nextMessage('sluice:listener.lost');
  proxy.refuse();
  proxy.cut();
  await lost;
  const late: string[] = [];
  const joining = bus.listen('torn', (notice) => late.push(notice.kind));
  await send('torn', 'unheard');
  await proxy.accept();
  await joining; // it begins with this session
  await send('torn', '3');
  await until(() => subscription.all.length === 4);
  expect(calls).toEqual(['1', '2', 'gap 2', '3']);
  expect(late).toEqual(['message']);
  expect(bus.stats()).toMatchObject({ gaps: 2, messages: 7, failed: 4, subscriptions: 3 });
});

test('it is refused as subscribing is, and leaves nothing behind', async () => {
  await using bus = open();
  const ignore = (): void => {};
  for (const none of [undefined, null, 'f', {}]) {
    await expect(bus.listen('a', none as never)).rejects.toThrow(
      new TypeError('the handler is none; give a function'),
    );
  }
  await expect(bus.listen('', ignore)).rejects.toMatchObject({ code: 'name_invalid' });
  await expect(bus.listen('a', ignore, { schema: {} as never })).rejects.toThrow(TypeError);
  await expect(bus.listen('a', ignore, { signal: {} as never })).rejects.toThrow(TypeError);
  const reason = new Error('enough');
  await expect(bus.listen('a', ignore, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  expect(bus.channels).toEqual([]);
  expect(bus.generation).toBe(0);
  await bus.close();
  await expect(bus.listen('a', ignore)).rejects.toMatchObject({ code: 'closed' });

  const unreachable = createNotifyBus({ connectionString: 'postgres://127.0.0.1:1/none' });
  const abort = new AbortController();
  const abandoned = unreachable.listen('a', ignore, { signal: abort.signal });
  const closing = unreachable.listen('a', ignore);
  abort.abort(reason);
  await expect(abandoned).rejects.toBe(reason);
  await Promise.all([expect(closing).rejects.toMatchObject({ code: 'closed' }), unreachable.close()]);
  expect(unreachable.channels).toEqual([]);
});

test('I11: the channel of the last listener is left, and one who comes back hears it again', async () => {
  await using bus = open();
  {
    await using listener = await bus.listen('left', () => {});
    expect(bus.channels).toEqual([listener.channel]);
  }
  expect(bus.channels).toEqual([]);
  const calls: string[] = [];
  await bus.listen('left', (notice) => notice.kind === 'message' && calls.push(notice.payload));
  await bus.notify('left', 'again');
  await until(() => calls.length === 1);
});
