// Guards how long is waited between tries: within its bounds for every attempt, and never in step with others (I7).
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { backoffMs, jittered } from '../../src/util/backoff.ts';

const chance = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

test('I7: a wait lies between nothing and the cap, however many tries failed', () => {
  fc.assert(
    fc.property(
      fc.nat(),
      fc.integer({ min: 1, max: 1000 }),
      fc.integer({ min: 1, max: 60_000 }),
      chance,
      (attempt, initialMs, maxMs, random) => {
        const ms = backoffMs(attempt, { initialMs, maxMs }, random);
        expect(ms).toBeGreaterThanOrEqual(0);
        expect(ms).toBeLessThanOrEqual(maxMs);
        expect(ms).toBeLessThanOrEqual(initialMs * 2 ** attempt);
      },
    ),
  );
});

test('the range doubles until the cap, and the wait is spread over all of it', () => {
  const longest = [0, 1, 2, 3, 4, 5].map((attempt) => backoffMs(attempt, { initialMs: 100, maxMs: 1000 }, 1));
  expect(longest).toEqual([100, 200, 400, 800, 1000, 1000]);
  expect(backoffMs(3, { initialMs: 100, maxMs: 1000 }, 0.25)).toBe(200);
  expect(backoffMs(Number.MAX_SAFE_INTEGER, { initialMs: 100, maxMs: 1000 }, 0.5)).toBe(500);
});

test('jitter stays within a fifth', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 100_000 }), chance, (ms, random) => {
      expect(Math.abs(jittered(ms, random) - ms)).toBeLessThanOrEqual(ms * 0.2 + 1e-9 * ms);
    }),
  );
  expect(jittered(100, 0.5)).toBe(100);
});
