// Guards how a batch goes to thousands: to all who are there, once, in order, with turns for everybody else in between.
import { expect, test, vi } from 'vitest';
import { Round } from '../../src/util/round.ts';
import { deferred, type Deferred } from '../../src/util/deferred.ts';

/** A round that takes its turns when told to. */
const steered = (options: { turn: number; perMs?: number }): { round: Round; next: () => Promise<void> } => {
  let waiting: Deferred<void> = deferred();
  const round = new Round({ perMs: 0, many: 1, ...options, pause: () => waiting.promise });
  round.came();
  const next = async (): Promise<void> => {
    const { resolve } = waiting;
    waiting = deferred();
    resolve();
    await Promise.resolve();
    await Promise.resolve();
  };
  return { round, next };
};

test('few have theirs at once, and it is over', () => {
  const got: number[] = [];
  const round = new Round({ turn: 3, many: 1 });
  round.came();
  round.begin([1, 2], (n) => got.push(n));
  expect(got).toEqual([1, 2]);
  expect(round.underWay()).toBeUndefined();
});

test('many have theirs turn by turn, and it is over when all have', async () => {
  const got: number[] = [];
  const { round, next } = steered({ turn: 3 });
  round.begin([1, 2, 3, 4, 5, 6, 7], (n) => got.push(n));
  const over = round.underWay();
  expect(got).toEqual([1, 2, 3]);
  await next();
  expect(got).toEqual([1, 2, 3, 4, 5, 6]);
  expect(round.underWay()).toBe(over);
  await next();
  await over;
  expect(got).toEqual([1, 2, 3, 4, 5, 6, 7]);
  expect(round.underWay()).toBeUndefined();
});

test('who joins meanwhile has a turn, and who leaves has none', async () => {
  const got: number[] = [];
  const all = new Set([1, 2, 3, 4]);
  const { round, next } = steered({ turn: 2 });
  round.begin(all, (n) => got.push(n));
  all.delete(3);
  all.add(5);
  await next();
  await next();
  await round.underWay();
  expect(got).toEqual([1, 2, 4, 5]);
});

test('by itself it goes on in the next turn of the loop', async () => {
  const got: number[] = [];
  const round = new Round({ turn: 10, many: 1 });
  round.came();
  round.begin(
    Array.from({ length: 100 }, (_, n) => n),
    (n) => got.push(n),
  );
  expect(got).toHaveLength(10);
  await round.underWay();
  expect(got).toHaveLength(100);
});

test('while few come all have theirs at once', () => {
  const got: number[] = [];
  const round = new Round({ turn: 2, many: 4 });
  for (let n = 0; n < 3; n += 1) round.came();
  round.begin([1, 2, 3, 4, 5], (n) => got.push(n));
  expect(got).toEqual([1, 2, 3, 4, 5]);
  expect(round.underWay()).toBeUndefined();
});

test('who came more than a second ago counts no more', () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  try {
    const got: number[] = [];
    const round = new Round({ turn: 2, many: 2 });
    round.came();
    vi.advanceTimersByTime(1001);
    round.came();
    round.begin([1, 2, 3], (n) => got.push(n));
    expect(got).toEqual([1, 2, 3]);
    round.came();
    round.begin([4, 5, 6], (n) => got.push(n));
    expect(got).toEqual([1, 2, 3, 4, 5]);
  } finally {
    vi.useRealTimers();
  }
});
