// Guards who listens to what: a channel is listened to exactly while somebody wants it, and everybody who wants it
// hears each message once and of each new session once (I4).
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { Hub, type ChannelHandler } from '../../src/listen/hub.ts';

interface Heard {
  readonly handler: ChannelHandler;
  readonly messages: string[];
  readonly gaps: number[];
}

const recorder = (): Heard => {
  const messages: string[] = [];
  const gaps: number[] = [];
  const handler: ChannelHandler = {
    message: (payload, processId) => messages.push(`${payload}/${processId}`),
    gap: (generation) => gaps.push(generation),
  };
  return { handler, messages, gaps };
};

test('I4: LISTEN and UNLISTEN follow the first and the last of a channel’s handlers, whatever the order', () => {
  const step = fc.record({ add: fc.boolean(), channel: fc.constantFrom('a', 'b', 'c'), who: fc.nat(3) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const hub = new Hub();
      const heard = Array.from({ length: 4 }, recorder);
      const model = new Map<string, Set<number>>();
      for (const { add, channel, who } of steps) {
        const members = model.get(channel) ?? new Set();
        const before = members.size;
        const { handler } = heard[who]!;
        const changed = add ? hub.add(channel, handler) : hub.remove(channel, handler);
        if (add) members.add(who);
        else members.delete(who);
        model.set(channel, members);
        expect(changed).toBe(add ? before === 0 : before > 0 && members.size === 0);
        const wanted = [...model].filter(([, { size }]) => size > 0).map(([name]) => name);
        expect([...hub.channels].sort()).toEqual(wanted.sort());
      }
      hub.message('a', 'x', 7);
      hub.gap(2);
      for (const [who, { messages, gaps }] of heard.entries()) {
        const channels = [...model.values()].filter((members) => members.has(who)).length;
        expect(messages).toEqual(model.get('a')?.has(who) === true ? ['x/7'] : []);
        expect(gaps).toEqual(Array.from({ length: channels }, () => 2));
      }
    }),
  );
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
