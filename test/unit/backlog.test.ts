// Guards I7 for ephemerals: what a full connection keeps of them is bounded, and is the newest, in order.
import { array, assert, constant, integer, nat, oneof, property } from 'fast-check';
import { expect, test } from 'vitest';
import { Backlog } from '../../src/http/backlog.ts';

test('keeps the newest that fit, in order, and counts the others', () => {
  const step = oneof(nat(40), constant('take' as const));
  assert(
    property(integer({ min: 1, max: 100 }), array(step, { maxLength: 60 }), (bound, steps) => {
      const backlog = new Backlog(bound);
      let kept: string[] = [];
      for (const [index, each] of steps.entries()) {
        if (each === 'take') {
          expect(backlog.take()?.toString() ?? '').toBe(kept.join(''));
          kept = [];
          continue;
        }
        const text = String(index % 10).repeat(each);
        const before = kept.length + 1;
        kept.push(text);
        while (kept.join('').length > bound) kept.shift();
        expect(backlog.add(Buffer.from(text))).toBe(before - kept.length);
      }
      expect(backlog.take()?.toString() ?? '').toBe(kept.join(''));
      expect(backlog.take()).toBeUndefined();
    }),
  );
});

test('one buffer alone is passed on as it is, shared by all who get it', () => {
  const backlog = new Backlog(10);
  const frames = Buffer.from('frames');
  backlog.add(frames);
  expect(backlog.take()).toBe(frames);
});
