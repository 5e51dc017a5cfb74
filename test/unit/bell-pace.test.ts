// Guards when readers are told, and by what: commits do it only where they hold nobody up for long, and many events share a
// notification (I7, interleaving 32).
import { expect, test } from 'vitest';
import { BellPace } from '../../src/log/bell-pace.ts';

test('I7: after a statement the next rests, the longer the more events pass, within bounds', () => {
  const rests = [1, 2, 10, 25, 50, 100].map((events) => {
    const pace = new BellPace();
    pace.told(0);
    pace.passed(events);
    pace.told(5);
    return pace.restMs(5);
  });
  expect(rests).toEqual([2, 2, 2, 5, 10, 10]);
});

test('I7: two within one tick of the clock rest as if many events had passed', () => {
  const pace = new BellPace();
  pace.told(3);
  pace.told(3);
  expect(pace.restMs(3)).toBe(10);
  expect(pace.mayRing(13)).toBe(true);
});

test('I7: a pace that has told nobody yet holds nothing up', () => {
  const pace = new BellPace();
  expect(pace.restMs(0)).toBe(0);
  expect(pace.mayRing(0)).toBe(true);
});

test('I7, interleaving 32: quick commits tell readers one after another while few events pass', () => {
  const pace = new BellPace();
  for (let at = 0; at < 100; at += 2) {
    expect(pace.mayRing(at)).toBe(true);
    pace.passed(4);
    pace.rang(at, 2);
    expect(pace.restMs(at)).toBe(0);
  }
});

test('I7, interleaving 32: where many events pass, neither a commit nor a statement tells readers again at once', () => {
  const pace = new BellPace();
  pace.rang(0, 1);
  pace.passed(16);
  pace.rang(2, 1);
  expect(pace.restMs(2)).toBe(8);
  expect(pace.mayRing(9.9)).toBe(false);
  expect(pace.mayRing(10)).toBe(true);
});

test('I7, interleaving 32: slow commits take a small part of the time, and one of them changes little', () => {
  const pace = new BellPace();
  let at = 0;
  pace.rang(at, 20);
  expect(pace.mayRing(at)).toBe(true);
  let ringing = 0;
  for (at = 20; at < 20_000; at += 20) {
    if (!pace.mayRing(at)) continue;
    pace.rang(at + 20, 20);
    ringing += 20;
  }
  expect(ringing / at).toBeLessThan(0.12);
  expect(pace.restMs(at)).toBe(0); // statements of its own need not rest for that
});

test('I7, interleaving 32: commits that fail after a long wait count as slow ones', () => {
  const pace = new BellPace();
  pace.failed(0, 1000);
  expect(pace.mayRing(1999)).toBe(false);
  expect(pace.mayRing(2000)).toBe(true);
  for (let at = 2000; at < 20_000; at += 1000) if (pace.mayRing(at)) pace.rang(at, 1);
  expect(pace.mayRing(20_000)).toBe(true);
});
