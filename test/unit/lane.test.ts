// Guards what goes into one call for a stream: everything in order, nothing twice, plain appends together, and what is
// kept or dropped by itself apart.
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { takeGroups, type Item, type Lane } from '../../src/log/lane.ts';
import { deferred } from '../../src/util/deferred.ts';
import { encodedOf } from '../support/records.ts';

const limits = { maxEvents: 10, maxBytes: 1000 };

interface Wish {
  readonly size?: number | undefined;
  readonly key?: string | undefined;
  readonly expected?: bigint | undefined;
}

const itemOf = ({ size = 1, key, expected }: Wish, n: number): Item => ({
  events: Array.from({ length: size }, (_, i) => encodedOf(`${n}.${i}`)),
  bytes: size * 3,
  deadline: 0,
  result: deferred(),
  idempotencyKey: key,
  expectedOffset: expected,
});

const laneOf = (...wishes: readonly Wish[]): Lane => ({
  items: wishes.map(itemOf),
  busy: false,
  held: false,
});

/** The calls that empty the lane, each as its groups: `0 1|2k` is two plain appends together, then one with a key. */
const callsOf = (lane: Lane): string[] => {
  const calls: string[] = [];
  while (lane.items.length > 0) {
    const groups = takeGroups('s', lane, limits);
    if (groups.length === 0) throw new Error('a call takes nothing: it would never end');
    calls.push(
      groups
        .map(
          ({ events, idempotencyKey = '', expectedOffset }) =>
            `${events.map(({ data }) => data.split('.')[0]).join(' ')}${idempotencyKey}${expectedOffset === undefined ? '' : `@${expectedOffset}`}`,
        )
        .join('|'),
    );
  }
  return calls;
};

describe('takeGroups', () => {
  test('plain appends go together, up to the limits', () => {
    expect(callsOf(laneOf({}, {}, { size: 3 }))).toEqual(['0 1 2 2 2']);
    expect(callsOf(laneOf({ size: 6 }, { size: 4 }, {}))).toEqual(['0 0 0 0 0 0 1 1 1 1', '2']);
    expect(callsOf(laneOf({ size: 12 }, {}))).toEqual(['0 0 0 0 0 0 0 0 0 0 0 0', '1']);
  });

  test('one with a key is a group of its own; the same key again waits for the next call', () => {
    expect(callsOf(laneOf({}, { key: 'a' }, {}, {}, { key: 'b' }))).toEqual(['0|1a|2 3|4b']);
    expect(callsOf(laneOf({ key: 'a' }, { key: 'b' }, { key: 'a' }, {}))).toEqual(['0a|1b', '2a|3']);
  });

  test('one with an expected offset is alone in its call', () => {
    expect(callsOf(laneOf({}, { expected: 2n }, {}, { key: 'a', expected: 9n }))).toEqual([
      '0',
      '1@2',
      '2',
      '3a@9',
    ]);
  });

  test('any lane is emptied in order, each item once, no call over its limits', () => {
    const wish = fc.record({
      size: fc.integer({ min: 1, max: 12 }),
      key: fc.option(fc.constantFrom('a', 'b', 'c'), { nil: undefined }),
      expected: fc.option(fc.constant(5n), { nil: undefined }),
    });
    fc.assert(
      fc.property(fc.array(wish, { maxLength: 30 }), (wishes) => {
        const lane = laneOf(...wishes);
        const items = [...lane.items];
        const taken: Item[] = [];
        while (lane.items.length > 0) {
          const groups = takeGroups('s', lane, limits);
          const ofCall = groups.flatMap((group) => group.items);
          const keys = groups.map(({ idempotencyKey }) => idempotencyKey).filter((key) => key !== undefined);
          const events = groups.reduce((sum, group) => sum + group.events.length, 0);
          expect(ofCall.length).toBeGreaterThan(0);
          expect(new Set(keys).size).toBe(keys.length);
          if (ofCall.length > 1) expect(events).toBeLessThanOrEqual(limits.maxEvents);
          if (groups.some(({ expectedOffset }) => expectedOffset !== undefined))
            expect(ofCall).toHaveLength(1);
          for (const group of groups)
            expect(group.events).toEqual(group.items.flatMap((item) => item.events));
          taken.push(...ofCall);
        }
        expect(taken).toEqual(items);
      }),
    );
  });
});
