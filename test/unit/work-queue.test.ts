// Guards the queue of a consumer (I6): of a keyed group the events of one key go one after another, and nothing that
// stands behind an event goes before it when that is taken out of the queue.
import { expect, test } from 'vitest';
import { WorkQueue } from '../../src/groups/work-queue.ts';

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
