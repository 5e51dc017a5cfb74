// Guards that what fails over and over fills no log (I7): one line of a kind in a minute, a bounded number of kinds, and
// each line says how many there were.
import { expect, test } from 'vitest';
import { Seldom } from '../../src/util/seldom.ts';

test('one of a kind in a minute is told, with how many came since the one before', () => {
  const seldom = new Seldom<string>();
  expect([0, 1, 59_999].map((now) => seldom.count('a', now))).toEqual([1, 0, 0]);
  expect(seldom.count('b', 59_999)).toBe(1);
  expect(seldom.count('a', 60_000)).toBe(3);
  expect(seldom.count('a', 200_000)).toBe(1);
});

test('I7: of however many kinds, a hundred are told in a minute; those told longest ago make room', () => {
  const seldom = new Seldom<number>();
  const toldAt = (now: number): number => {
    let told = 0;
    for (let kind = 0; kind < 10_000; kind += 1) if (seldom.count(kind, now) > 0) told += 1;
    return told;
  };
  expect([0, 1000, 59_999].map(toldAt)).toEqual([100, 0, 0]);
  expect(seldom.count(-1, 60_000)).toBe(1);
  expect(toldAt(60_000)).toBeLessThanOrEqual(100);
});
