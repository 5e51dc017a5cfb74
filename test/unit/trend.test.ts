// Guards the judge of the soak: what grows is found under noise and outliers, what only moves up and down is not called
// growth. Were it blind, a leak would pass.
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { trendOf } from '../support/trend.ts';

const noise = fc.array(fc.double({ min: -1, max: 1, noNaN: true }), { minLength: 12, maxLength: 40 });

describe('trendOf', () => {
  test('a line is its own trend', () => {
    const points = [3, 1, 2, 9].map((x) => ({ x, y: 5 + 2 * x }));
    expect(trendOf(points)).toEqual({ slope: 2, growth: 16, median: 10 });
  });

  test('growth is found under noise of its own size, less a half', () => {
    fc.assert(
      fc.property(noise, (deviations) => {
        const last = deviations.length - 1;
        const points = deviations.map((deviation, x) => ({ x, y: 100 + (10 * x) / last + deviation }));
        const { growth } = trendOf(points);
        expect(growth).toBeGreaterThan(5);
        expect(growth).toBeLessThan(15);
      }),
    );
  });

  test('one outlier in either direction is none', () => {
    fc.assert(
      fc.property(fc.integer({ min: 8, max: 40 }), fc.nat(), fc.integer(), (length, at, outlier) => {
        const points = Array.from({ length }, (_, x) => ({ x, y: x === at % length ? outlier : 7 }));
        expect(trendOf(points).growth).toBe(0);
      }),
    );
  });

  test('too little to tell is an error, not a trend', () => {
    expect(() => trendOf([])).toThrow(RangeError);
    expect(() => trendOf([1, 1, 1].map((x) => ({ x, y: x })))).toThrow(RangeError);
  });
});
