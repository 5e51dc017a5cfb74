// Guards what a handler is called with and when, and that nothing it does reaches others (interleavings N12 to N15): it
// may throw, close itself, others or all, and begin others, in the middle of a message that thousands hear.
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import * as fc from 'fast-check';
import { expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { Decoder } from '../../src/listen/decoder.ts';
import { Hub } from '../../src/listen/hub.ts';
import { HandlerSubscription, type NotifyHandler } from '../../src/listen/handler-subscription.ts';
import type { Tally } from '../../src/listen/notification.ts';
import { Subscription } from '../../src/listen/subscription.ts';
import { Seldom } from '../../src/util/seldom.ts';
import { silentLogger } from '../../src/util/logger.ts';
import type { StandardSchemaV1 } from '../../src/util/standard-schema.ts';

const countTally = (): Tally => ({ messages: 0, missed: 0, gaps: 0, malformed: 0, failed: 0 });

/** A hub whose listeners hear channel `a`. */
const listening = () => {
  const hub = new Hub();
  const tally = countTally();
  const failures: unknown[] = [];
  const listen = <T = undefined>(
    handler: NotifyHandler<T>,
    schema?: StandardSchemaV1<unknown, T>,
  ): HandlerSubscription<T> => {
    const decoder =
      schema && new Decoder<T>({ channel: 'a', schema, tally, logger: silentLogger, seldom: new Seldom() });
    const listener: HandlerSubscription<T> = new HandlerSubscription<T>({
      channel: 'a',
      handler,
      decoder,
      tally,
      onFailure: (error) => failures.push(error),
      onEnd: () => hub.remove('a', listener),
    });
    hub.add('a', listener);
    return listener;
  };
  const listenNow = <T = undefined>(
    handler: NotifyHandler<T>,
    schema?: StandardSchemaV1<unknown, T>,
  ): HandlerSubscription<T> => {
    const listener = listen(handler, schema);
    listener.open();
    return listener;
  };
  const tell = (...payloads: string[]): void => {
    for (const payload of payloads) hub.message('a', payload, 7);
  };
  return { hub, tally, failures, listen, listenNow, tell };
};
/** What a handler is called with, as short texts; `as` stands before each. */
const into =
  (calls: string[], as = '') =>
  (notice: Parameters<NotifyHandler>[0]): void => {
    calls.push(as + (notice.kind === 'message' ? notice.payload : `gap ${notice.generation}`));
  };

test('I8: messages and gaps come in order, in the very call, and only between open and close', async () => {
  const { hub, tally, listen, tell } = listening();
  const calls: unknown[] = [];
  const listener = listen((notice) => calls.push(notice));
  tell('before');
  hub.gap(1);
  listener.open();
  tell('1', '2');
  hub.gap(2);
  tell('');
  expect(calls).toEqual([
    { kind: 'message', payload: '1', processId: 7 },
    { kind: 'message', payload: '2', processId: 7 },
    { kind: 'gap', generation: 2 },
    { kind: 'message', payload: '', processId: 7 },
  ]);
  await listener.close();
  await listener.close();
  await listener.ended;
  listener.open();
  tell('after');
  hub.gap(3);
  expect(calls.length).toBe(4);
  expect(tally).toMatchObject({ messages: 3, gaps: 1, failed: 0 });
  expect(hub.channels).toEqual([]);
});

test('a handler is called as a function, with a message that none can change for the others', () => {
  const { listenNow, tell } = listening();
  const calls: string[] = [];
  listenNow(function (this: unknown, notice) {
    expect(this).toBeUndefined();
    Reflect.set(notice, 'payload', 'changed');
  });
  listenNow(into(calls));
  tell('1');
  expect(calls).toEqual(['1']);
});

test('N12: one that begins while a message is handed out is not given it, however often that is repeated', () => {
  const { listen, listenNow, tell, hub } = listening();
  const calls: string[] = [];
  const again = (): void => {
    if (calls.length > 9) throw new Error('it would go on for ever');
    const listener = listenNow((notice) => {
      into(calls)(notice);
      void listener.close();
      again();
      listen(into(calls, 'not yet in force: '));
    });
  };
  again();
  tell('1');
  hub.gap(2);
  tell('2');
  expect(calls).toEqual(['1', 'gap 2', '2']);
});

test('N12: nor is a subscription that begins then', async () => {
  const { hub, listenNow, tell, tally } = listening();
  const late: Subscription<undefined>[] = [];
  listenNow(() => {
    const options = { channel: 'a', buffer: 9, decoder: undefined, tally, onEnd: () => {} };
    const subscription = new Subscription<undefined>(options);
    hub.add('a', subscription);
    late.push(subscription);
  });
  tell('1', '2');
  expect((await late[0]?.next())?.value).toMatchObject({ payload: '2' });
});

test('N13: one that was closed is not called any more, whoever closed it, also while a message is handed out', () => {
  const { hub, listenNow, tell } = listening();
  for (const notify of [() => tell('1'), () => hub.gap(2)]) {
    const calls: string[] = [];
    const first = listenNow(() => {
      calls.push('first');
      void third.close();
      void first.close();
    });
    const second = listenNow(() => void calls.push('second'));
    const third = listenNow(() => void calls.push('third'));
    const fourth = listenNow(() => void calls.push('fourth'));
    notify();
    notify();
    expect(calls).toEqual(['first', 'second', 'fourth', 'second', 'fourth']);
    void second.close();
    void fourth.close();
  }
  expect(hub.channels).toEqual([]);
});

test('N13: whatever handlers close and begin, those are called who were there before and still are, in their order', () => {
  const act = fc.record({ who: fc.nat(9), closes: fc.array(fc.nat(9)), begins: fc.nat(3) });
  fc.assert(
    fc.property(fc.array(act), fc.boolean(), (acts, asGap) => {
      const { hub, listenNow, tell } = listening();
      const calls: number[] = [];
      let armed = true; // they act in the first of two messages
      const all: HandlerSubscription<undefined>[] = [];
      const begin = (): void => {
        const me = all.length;
        const listener = listenNow(() => {
          calls.push(me);
          if (!armed) return;
          for (const { closes, begins } of acts.filter(({ who }) => who === me)) {
            for (const other of closes) void all[other]?.close();
            for (let n = 0; n < begins; n += 1) begin();
          }
        });
        all.push(listener);
      };
      for (let n = 0; n < 10; n += 1) begin();
      const gone = new Set<number>();
      const expected: number[] = [];
      for (let me = 0; me < 10; me += 1) {
        if (gone.has(me)) continue;
        expected.push(me);
        for (const { who, closes } of acts) if (who === me) for (const other of closes) gone.add(other);
      }
      const notify = (): void => (asGap ? hub.gap(2) : tell('1'));
      notify();
      expect(calls).toEqual(expected);
      armed = false;
      calls.length = 0;
      notify();
      // A number is given once: those that began are counted on from ten, and may be closed by nobody.
      expect(calls).toEqual([...all.keys()].filter((me) => !gone.has(me)));
    }),
  );
});

test('N14: one that throws or rejects is reported, and called for the next; all others have all of it', async () => {
  const { hub, tally, failures, listenNow, tell } = listening();
  const calls: string[] = [];
  listenNow(into(calls, 'before '));
  listenNow((notice) => {
    into(calls, 'throwing ')(notice);
    throw new Error('thrown');
  });
  const rejecting = (notice: Parameters<NotifyHandler>[0]): unknown => {
    into(calls, 'rejecting ')(notice);
    return Promise.reject(new Error('rejected'));
  };
  listenNow(rejecting);
  // What is no promise of the language's own may do as it likes.
  const tells = (_: unknown, reject: (error: unknown) => void): void => reject(new Error('no promise'));
  listenNow(() => new Proxy({}, { get: () => tells }));
  const throws = (): never => {
    throw new Error('no then');
  };
  listenNow(() => new Proxy({}, { get: throws }));
  listenNow(into(calls, 'after '));
  tell('1');
  hub.gap(2);
  await new Promise((done) => setImmediate(done));
  expect(calls).toEqual(
    ['1', 'gap 2'].flatMap((notice) =>
      ['before', 'throwing', 'rejecting', 'after'].map((who) => `${who} ${notice}`),
    ),
  );
  const messages = failures.map((error) => (error as Error).message).sort();
  expect(messages).toEqual(
    ['no promise', 'no then', 'rejected', 'thrown'].flatMap((message) => [message, message]),
  );
  expect(tally).toMatchObject({ messages: 6, gaps: 6 });
});

test('with a schema: what fits is given with its data, what does not is skipped and reported, in order', () => {
  const { tally, hub, listenNow, tell } = listening();
  const reported: unknown[] = [];
  const hear = (details: unknown): void => void reported.push(details);
  subscribe('sluice:bus.malformed', hear);
  onTestFinished(() => void unsubscribe('sluice:bus.malformed', hear));
  const calls: unknown[] = [];
  listenNow<number>(
    (notice) => calls.push(notice.kind === 'message' ? notice.data : notice.kind),
    z.int().transform((n) => n * 10),
  );
  tell('1', 'not JSON', '"x"');
  hub.gap(2);
  tell('2');
  expect(calls).toEqual([10, 'gap', 20]);
  expect(tally).toMatchObject({ messages: 4, malformed: 2, gaps: 1 });
  expect(reported).toMatchObject([{ channel: 'a', processId: 7, bytes: 8 }, { channel: 'a' }]);
});

test('N15: a schema that answers later is waited for by nobody: its messages are skipped, and say what to do', async () => {
  const { tally, hub, listenNow, tell } = listening();
  const reasons: string[] = [];
  const hear = (details: unknown): void => void reasons.push((details as { reason: string }).reason);
  subscribe('sluice:bus.malformed', hear);
  onTestFinished(() => void unsubscribe('sluice:bus.malformed', hear));
  const calls: string[] = [];
  listenNow<number>(
    (notice) => calls.push(notice.kind),
    z.number().refine(async (n) => n > 1),
  );
  tell('1', '2');
  hub.gap(2);
  await new Promise((done) => setImmediate(done));
  expect(calls).toEqual(['gap']);
  expect(tally).toMatchObject({ messages: 2, malformed: 2 });
  expect(reasons).toEqual(Array.from({ length: 2 }, () => expect.stringMatching(/asynchronous.*subscribe/)));
});

test('N13: a schema that closes its listener is the last that it was asked', () => {
  const { listenNow, tell, tally } = listening();
  const calls: string[] = [];
  const schema = z.unknown().refine(() => {
    void listener.close();
    return true;
  });
  const listener = listenNow<unknown>((notice) => calls.push(notice.kind), schema);
  tell('1', '2');
  expect({ calls, messages: tally.messages }).toEqual({ calls: [], messages: 1 });
});

test('a refused channel ends its listeners', async () => {
  const { hub, listenNow } = listening();
  const listener = listenNow(() => {});
  hub.refuse('a', new Error('no such characters'));
  await listener.ended;
  expect(hub.channels).toEqual([]);
});
