// Guards the pure parts of groups: sets of offsets, whose turn it is, how much is held, and when a consumer pauses.
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Due } from '../../src/groups/due.ts';
import { Breaker } from '../../src/groups/breaker.ts';
import { toHandedOut } from '../../src/groups/handed-out.ts';
import { fromMultirange, toMultirange } from '../../src/groups/offsets.ts';
import { turnMs } from '../../src/groups/turn.ts';
import { Window } from '../../src/groups/window.ts';

describe('sets of offsets', () => {
  test('are written as PostgreSQL writes multiranges', () => {
    expect(toMultirange([])).toBe('{}');
    expect(toMultirange([7n, 1n, 3n, 2n])).toBe('{[1,4),[7,8)}');
  });

  test('come back as they were, sorted and once each', () => {
    fc.assert(
      fc.property(fc.array(fc.bigInt(1n, 200n)), (offsets) => {
        const sorted = [...new Set(offsets)].toSorted((a, b) => (a < b ? -1 : 1));
        expect(fromMultirange(toMultirange(offsets))).toEqual(sorted);
      }),
    );
  });
});

describe('turns', () => {
  test('of all members exactly one goes at once, and no two at the same time while they are few', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 10 }), fc.bigInt(0n, 1_000_000n), (members, head) => {
        const waits = Array.from({ length: members }, (_, place) => turnMs({ place, members }, head));
        expect(waits.filter((ms) => ms === 0)).toHaveLength(1);
        expect(new Set(waits).size).toBe(members);
      }),
    );
  });

  test('go round with the offsets, and nobody waits for long behind the dead', () => {
    const first = [0n, 1n, 2n, 3n].map((head) =>
      [0, 1, 2].findIndex((place) => turnMs({ place, members: 3 }, head) === 0),
    );
    expect(first).toEqual([0, 1, 2, 0]);
    expect(turnMs({ place: 999, members: 1000 }, 0n)).toBe(200);
  });
});

describe('the window', () => {
  test('holds what handlers take at a time, more for the fast, and never more than its bounds', () => {
    const window = new Window({ least: 4, most: 100 });
    const idle = { queued: 0, inHand: 0, free: 4 };
    expect(window.room(idle)).toBe(4);
    expect(window.room({ queued: 0, inHand: 4, free: 0 })).toBe(0);
    for (let lease = 0; lease < 10; lease += 1) window.learn(window.room(idle), 5);
    expect(window.room(idle)).toBe(100);
    expect(window.room({ queued: 51, inHand: 4, free: 0 })).toBe(0);
    expect(window.room({ queued: 50, inHand: 4, free: 0 })).toBe(46);
    for (let lease = 0; lease < 10; lease += 1) window.learn(4, 10_000);
    expect(window.room(idle)).toBe(4);
  });

  test('for batches: in pieces, and ahead of busy handlers only what is known to be there', () => {
    const window = new Window({ least: 10, most: 20 });
    window.learn(10, 5);
    expect(window.batchRoom({ queued: 0, inHand: 0, free: 10 }, true)).toBe(10);
    expect(window.batchRoom({ queued: 0, inHand: 10, free: 0 }, true)).toBe(10);
    expect(window.batchRoom({ queued: 0, inHand: 10, free: 0 }, false)).toBe(0);
    expect(window.batchRoom({ queued: 4, inHand: 0, free: 4 }, false)).toBe(10); // behind keys in hand
  });

  test('small leases in a large window say nothing about it', () => {
    const window = new Window({ least: 1, most: 100 });
    window.learn(1, 1);
    window.learn(2, 1);
    window.learn(1, 1);
    expect(window.room({ queued: 0, inHand: 0, free: 1 })).toBe(4);
  });
});

test('the breaker opens after so many failures in a row, and stays quick after its pause', () => {
  const breaker = new Breaker(3);
  expect([breaker.failed(), breaker.failed()]).toEqual([false, false]);
  breaker.succeeded();
  expect([breaker.failed(), breaker.failed(), breaker.failed()]).toEqual([false, false, true]);
  expect(breaker.isOpen).toBe(true);
  expect(breaker.failed()).toBe(false);
  breaker.close();
  expect(breaker.failed()).toBe(true);
  breaker.close();
  breaker.succeeded();
  expect([breaker.failed(), breaker.failed(), breaker.failed()]).toEqual([false, false, true]);
});

describe('what is handed out', () => {
  const row = {
    first: '5',
    offsets: null,
    tags: '{1,-2}',
    at: '{10,20}',
    attempts: null,
    types: null,
    keys: null,
    rest: null,
  };
  test('dense from the first, with what some events have and others not', () => {
    const data = ['{"a":"\\u001e"}', ' [1,\n2] '].join('\u001E');
    const types = 'paid\u001E';
    const handed = toHandedOut({
      ...row,
      data,
      types,
      keys: '{"6":"k"}',
      rest: '{"6":["a",null,"{}"]}',
    });
    expect(handed).toEqual([
      expect.objectContaining({
        attempt: 1,
        record: expect.objectContaining({
          offset: 5n,
          tag: 1,
          atMs: 10,
          data: '{"a":"\\u001e"}',
          type: 'paid',
          key: null,
          headers: null,
        }) as object,
      }),
      expect.objectContaining({
        attempt: 1,
        record: expect.objectContaining({
          offset: 6n,
          tag: -2,
          atMs: 20,
          data: ' [1,\n2] ',
          type: null,
          key: 'k',
          visibleTo: 'a',
          exclude: null,
          headers: '{}',
        }) as object,
      }),
    ]);
  });

  test('with offsets of their own, and attempts', () => {
    const data = ['1', '2'].join('\u001E');
    const handed = toHandedOut({ ...row, data, offsets: '{7,9}', attempts: '{2,3}' });
    expect(handed.map(({ record, attempt }) => [record.offset, attempt])).toEqual([
      [7n, 2],
      [9n, 3],
    ]);
  });

  test('nothing', () => {
    const none = { ...row, first: null, data: null, tags: null, at: null, types: null };
    expect(toHandedOut(none)).toEqual([]);
  });
});

describe('what is due', () => {
  test('who learns of it goes first; who is told waits for those before it', () => {
    const [knows, hears] = [new Due(), new Due()];
    expect(knows.learn(500, 100)).toBe(true);
    hears.told(500, 100);
    expect(knows.askAt(3, false)).toBe(500);
    expect(hears.askAt(0, false)).toBe(520);
    expect(hears.askAt(3, false)).toBe(580);
    expect(hears.askAt(50, false)).toBe(700);
    expect(hears.askAt(50, true)).toBe(580); // a throttle saves up a tenth of a second, and no more
  });

  test('what is known already is no news, and changes nobody’s turn', () => {
    const due = new Due();
    expect(due.learn(Infinity, 100)).toBe(false);
    due.told(500, 100);
    expect(due.learn(510, 200)).toBe(false);
    expect(due.askAt(0, false)).toBe(520);
    expect(due.learn(510, 505)).toBe(true); // that one is over: it is another
  });

  test('of two that ask at once, who came too late for it does not go for the next either', () => {
    const due = new Due();
    expect(due.learn(300, 100, true)).toBe(false);
    expect(due.isFirst).toBe(false);
    expect(due.askAt(0, true)).toBe(320);
  });

  test('what one knows to be due before what it is told of is not forgotten', () => {
    const due = new Due();
    due.learn(300, 100);
    due.told(500, 200);
    expect(due.askAt(9, false)).toBe(300);
    due.told(500, 310);
    expect(due.askAt(0, false)).toBe(520);
    due.told(Infinity, 510);
    expect(due.askAt(0, false)).toBe(Infinity);
  });
});
