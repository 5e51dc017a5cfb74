// Guards the relay's pace: bounded always, in proportion to the work under load, without rest before a backlog.
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { idlePause, restAfter, type Passed } from '../../src/relay/pace.ts';

const pass = (moved: number, spentMs: number, more = false): Passed => ({ moved, more, spentMs, perMs: 0 });
const atRate = (perMs: number, moved = 20, spentMs = 1): Passed => ({ ...pass(moved, spentMs), perMs });

test('under load passes take 15 % of the time, and are at most 100 ms apart', () => {
  expect(restAfter(pass(50, 3), pass(50, 3), 0)).toBeCloseTo(17);
  expect(restAfter(pass(5000, 300), pass(5000, 300), 0)).toBe(100);
});

test('few events do not wait for long behind one another', () => {
  expect(restAfter(pass(1, 3), pass(1, 3), 0)).toBe(3);
});

test('a pass that was held up once does not slow the next ones down', () => {
  expect(restAfter(pass(50, 80), pass(50, 3), 0)).toBeCloseTo(17);
});

test('the more events a second, the longer it rests, so that more of them share a pass', () => {
  const rests = [0.5, 1, 1.25, 1.5, 1.75, 2, 2.05, 4, 100].map((perMs) =>
    Math.round(restAfter(atRate(perMs), atRate(perMs), 0)),
  );
  expect(rests).toEqual([6, 6, 6, 13, 25, 38, 40, 40, 40]);
});

test('one transaction with many events is no rate, nor are a few that came late', () => {
  expect(restAfter(atRate(50, 1000, 3), atRate(0.1, 1, 3), 0)).toBeCloseTo(17);
  expect(restAfter(atRate(50, 1000, 3), undefined, 0)).toBeCloseTo(17);
  expect(restAfter(atRate(1, 100, 3), atRate(1, 100, 3), 0)).toBeCloseTo(17);
});

test('a backlog is not waited for', () => {
  expect(restAfter(pass(10_000, 400, true), pass(10_000, 400, true), 0)).toBe(1);
  expect(restAfter({ ...pass(10_000, 400, true), perMs: 50 }, atRate(50), 0)).toBe(1);
  expect(restAfter(pass(50, 3, true), pass(50, 3, true), 0)).toBeCloseTo(17); // a stream that somebody holds
});

test('a stream that is held keeps it awake, ever more slowly', () => {
  expect([0, 1, 2, 3, 4, 5, 60].map((idle) => restAfter(pass(0, 1, true), undefined, idle))).toEqual([
    1, 2, 4, 8, 16, 25, 25,
  ]);
  expect(idlePause(5000)).toBe(25);
});

test('I7: always between 1 and 100 ms', () => {
  const passed = fc.record({
    moved: fc.nat(),
    more: fc.boolean(),
    spentMs: fc.double({ min: 0, max: 1e6, noNaN: true }),
    perMs: fc.double({ min: 0, max: 1e6, noNaN: true }),
  });
  fc.assert(
    fc.property(passed, fc.option(passed, { nil: undefined }), fc.nat(), (last, before, idle) => {
      const rest = restAfter(last, before, idle);
      expect(rest).toBeGreaterThanOrEqual(1);
      expect(rest).toBeLessThanOrEqual(100);
    }),
  );
});
