// Guards the order in which a consumer begins its work (I6): of each key one at a time and in order, nothing after a
// failure, whatever the schedule; and everything that was added is begun, given back or still there.
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { WorkQueue } from '../../src/groups/work-queue.ts';

interface Piece {
  readonly key: string | null;
  readonly n: number;
  readonly lease: object;
}

const actions = fc.array(
  fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constant('add'),
        key: fc.constantFrom('a', 'b', 'c', null),
        lease: fc.nat(2),
      }),
    },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('take'), max: fc.integer({ min: 1, max: 3 }) }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('finish'), which: fc.nat(5), ok: fc.boolean() }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('lose'), lease: fc.nat(2) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('shed') }) },
  ),
  { maxLength: 60 },
) as fc.Arbitrary<
  { kind: string; key: string | null; lease: number; max: number; which: number; ok: boolean }[]
>;

test('I6: one of a key at a time, in order, and none lost', () => {
  fc.assert(
    fc.property(actions, (steps) => {
      const queue = new WorkQueue<Piece>(true);
      const leases = [{}, {}, {}];
      const running: Piece[] = [];
      const begun = new Map<string, number>();
      let [added, gone] = [0, 0];
      for (const { kind, key, lease, max, which, ok } of steps) {
        if (kind === 'add') queue.add({ key, n: (added += 1), lease: leases[lease] as object });
        else if (kind === 'take') {
          const taken = queue.take(max);
          expect(new Set(taken.map((piece) => piece.lease)).size).toBeLessThanOrEqual(1);
          for (const piece of taken) {
            if (piece.key !== null) {
              expect(running.some((other) => other.key === piece.key)).toBe(false);
              expect(begun.get(piece.key) ?? 0).toBeLessThan(piece.n);
              begun.set(piece.key, piece.n);
            }
            running.push(piece);
          }
        } else if (kind === 'finish' && running.length > 0) {
          const [piece] = running.splice(which % running.length, 1);
          const behind = queue.finish(piece as Piece, ok);
          expect(behind.every((other) => other.key === piece?.key)).toBe(true);
          if (ok) expect(behind).toEqual([]);
          gone += 1 + behind.length;
        } else if (kind === 'lose') gone += queue.remove(leases[lease]).length;
        else if (kind === 'shed') gone += queue.removeBehind().length;
        expect(added).toBe(gone + running.length + queue.size);
      }
      gone += queue.remove().length;
      expect(queue.size).toBe(0);
      expect(added).toBe(gone + running.length);
    }),
    { numRuns: 1000 },
  );
});

test('without keys everything may begin at once, lease by lease', () => {
  const queue = new WorkQueue<Piece>(false);
  const [one, two] = [{}, {}];
  for (const [n, lease] of [one, one, two].entries()) queue.add({ key: 'same', n, lease });
  expect(queue.take(10).map(({ n }) => n)).toEqual([0, 1]);
  expect(queue.take(10).map(({ n }) => n)).toEqual([2]);
  expect(queue.take(10)).toEqual([]);
});

const [first, second] = [{ name: 'first' }, { name: 'second' }];
const work = (n: number, key: string | null, lease: object = first) => ({ n, key, lease });
type Work = ReturnType<typeof work>;
const numbers = (works: readonly Work[]): number[] => works.map(({ n }) => n);
const queueOf = (...works: Work[]): WorkQueue<Work> => {
  const queue = new WorkQueue<Work>(true);
  for (const each of works) queue.add(each);
  return queue;
};

test('I6: of each key the first, then the one behind it', () => {
  const one = work(1, 'a');
  const queue = queueOf(one, work(2, 'a'), work(3, 'b'), work(4, null));
  expect(numbers(queue.take(10))).toEqual([1, 3, 4]);
  expect(queue.size).toBe(1);
  expect(queue.finish(one, true)).toEqual([]);
  expect(numbers(queue.take(10))).toEqual([2]);
});

test('I6: what stands behind one that failed is given back', () => {
  const one = work(1, 'a');
  const queue = queueOf(one, work(2, 'a'), work(3, 'a', second));
  queue.take(10);
  expect(numbers(queue.finish(one, false))).toEqual([2, 3]);
  expect(queue.size).toBe(0);
});

test('I6: with what a lost lease had ready goes what stands behind it, whatever its lease', () => {
  const queue = queueOf(work(1, 'a'), work(2, 'a', second), work(3, 'b', second));
  expect(numbers(queue.remove(first))).toEqual([1, 2]);
  expect(numbers(queue.take(10))).toEqual([3]);
  expect(queue.size).toBe(0);
});

test('I6: with what it had in a chain goes what stands behind that, and not what stands before it', () => {
  const one = work(1, 'a', second);
  const queue = queueOf(one, work(2, 'a', second), work(3, 'a', first), work(4, 'a', second));
  queue.take(10);
  expect(numbers(queue.remove(first))).toEqual([3, 4]);
  expect(queue.size).toBe(1);
  expect(queue.finish(one, true)).toEqual([]);
  expect(numbers(queue.take(10))).toEqual([2]);
});
