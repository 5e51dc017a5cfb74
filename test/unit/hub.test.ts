// Guards who listens to what: a channel is listened to exactly while somebody wants it, and everybody who wants it
// hears each message once and of each new session once (I4).
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import type { ChannelHandler } from '../../src/listen/hearers.ts';
import { Hub } from '../../src/listen/hub.ts';

interface Heard {
  readonly handler: ChannelHandler;
  readonly messages: string[];
  readonly gaps: number[];
}

const recorder = (): Heard => {
  const messages: string[] = [];
  const gaps: number[] = [];
  const handler: ChannelHandler = {
    message: ({ payload, processId }) => void messages.push(`${payload}/${processId}`),
    gap: (generation) => gaps.push(generation),
  };
  return { handler, messages, gaps };
};

type Step =
  | { readonly kind: 'add' | 'remove'; readonly channel: string; readonly who: number }
  | { readonly kind: 'listen' | 'unlisten' | 'restart' };

const channels = ['a', 'b', 'c'];
const steps = fc.array(
  fc.oneof(
    fc.record({
      kind: fc.constantFrom('add', 'remove'),
      channel: fc.constantFrom(...channels),
      who: fc.nat(3),
    }),
    fc.record({ kind: fc.constantFrom('listen', 'unlisten', 'restart') }),
  ) as fc.Arbitrary<Step>,
  { maxLength: 60 },
);

test('I4: what is missing and what is unwanted follow from who wants what and what is in force, whatever the order', () => {
  fc.assert(
    fc.property(steps, (steps) => {
      const hub = new Hub();
      const heard = Array.from({ length: 4 }, recorder);
      const wanted = new Map(channels.map((channel) => [channel, new Set<number>()]));
      let inForce = new Set<string>();
      for (const step of steps) {
        if (step.kind === 'add') {
          hub.add(step.channel, heard[step.who]!.handler);
          wanted.get(step.channel)!.add(step.who);
        } else if (step.kind === 'remove') {
          hub.remove(step.channel, heard[step.who]!.handler);
          wanted.get(step.channel)!.delete(step.who);
        } else if (step.kind === 'listen') {
          const missing = hub.missing(2);
          hub.listening(missing);
          for (const channel of missing) inForce.add(channel);
        } else if (step.kind === 'unlisten') {
          for (const channel of hub.takeUnwanted(2)) inForce.delete(channel);
        } else {
          hub.restart();
          inForce = new Set();
        }
        const isWanted = (channel: string): boolean => wanted.get(channel)!.size > 0;
        expect([...hub.channels].sort()).toEqual(channels.filter(isWanted));
        expect(channels.filter((channel) => hub.wants(channel))).toEqual(channels.filter(isWanted));
        expect(channels.filter((channel) => hub.isInForce(channel))).toEqual([...inForce].sort());
        expect(hub.missing(9).sort()).toEqual(
          channels.filter((each) => isWanted(each) && !inForce.has(each)),
        );
      }
      expect(hub.takeUnwanted(9).sort()).toEqual(
        [...inForce].filter((channel) => wanted.get(channel)!.size === 0).sort(),
      );
      hub.message('a', 'x', 7);
      hub.gap(2);
      for (const [who, { messages, gaps }] of heard.entries()) {
        const count = [...wanted.values()].filter((members) => members.has(who)).length;
        expect(messages).toEqual(wanted.get('a')!.has(who) ? ['x/7'] : []);
        expect(gaps).toEqual(Array.from({ length: count }, () => 2));
      }
    }),
  );
});

test('a channel that is left while its LISTEN is under way is unlistened to later', () => {
  const hub = new Hub();
  const { handler } = recorder();
  hub.add('a', handler);
  const underWay = hub.missing(9);
  hub.remove('a', handler);
  hub.listening(underWay);
  expect(hub.takeUnwanted(9)).toEqual(['a']);
});

test('a refused channel takes its own handlers with it, and nobody else’s', () => {
  const hub = new Hub();
  const [refused, other] = [recorder(), recorder()];
  const reasons: unknown[] = [];
  hub.add('a', { ...refused.handler, refused: (reason) => reasons.push(reason) });
  hub.add('b', other.handler);
  hub.refuse('a', 'no such characters');
  hub.message('a', '1', 1);
  hub.message('b', '2', 1);
  expect({ reasons, a: refused.messages, b: other.messages, missing: hub.missing(9) }).toEqual({
    reasons: ['no such characters'],
    a: [],
    b: ['2/1'],
    missing: ['b'],
  });
});

test('a message of a channel nobody wants any more is dropped', () => {
  const hub = new Hub();
  const { handler, messages } = recorder();
  hub.add('a', handler);
  hub.remove('a', handler);
  hub.message('a', 'late', 1);
  hub.message('b', 'never', 1);
  expect(messages).toEqual([]);
});

test('a handler may leave while it is told', () => {
  const hub = new Hub();
  const others = recorder();
  const leaving: ChannelHandler = {
    message: () => hub.remove('a', leaving),
    gap: () => hub.remove('a', leaving),
  };
  hub.add('a', leaving);
  hub.add('a', others.handler);
  hub.message('a', '1', 1);
  hub.message('a', '2', 1);
  expect(others.messages).toEqual(['1/1', '2/1']);
});

test('N12 N13: one that is removed while others are told is not told any more; one that is added is told of the next', () => {
  for (const tell of [(hub: Hub) => hub.message('a', '1', 1), (hub: Hub) => hub.gap(2)]) {
    const hub = new Hub();
    const [kept, removed, added] = [recorder(), recorder(), recorder()];
    const change = (): void => {
      hub.remove('a', removed.handler);
      hub.add('a', added.handler);
      hub.add('b', added.handler);
    };
    hub.add('a', { message: change, gap: change });
    hub.add('a', removed.handler);
    hub.add('a', kept.handler);
    const told = (): number[] =>
      [kept, removed, added].map(({ messages, gaps }) => messages.length + gaps.length);
    tell(hub);
    expect(told()).toEqual([1, 0, 0]);
    hub.message('a', '2', 1);
    expect(told()).toEqual([2, 0, 1]);
  }
});

test('a message that several share is one that none of them can change', () => {
  const hub = new Hub();
  const { handler, messages } = recorder();
  const meddler: ChannelHandler = {
    message: (message) => void Reflect.set(message, 'payload', 'changed'),
    gap: () => {},
  };
  hub.add('a', meddler);
  hub.add('a', handler);
  hub.message('a', '1', 1);
  expect(messages).toEqual(['1/1']);
});
