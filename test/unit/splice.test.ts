// Guards the one decision that joins replay and live delivery. test/unit/tail.test.ts runs it under random schedules.
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { nextStep } from '../../src/tail/splice.ts';

test.each([
  [0n, 0n, undefined, 'live'], // an empty stream
  [5n, 5n, 3n, 'live'],
  [6n, 5n, 3n, 'live'], // it read a page newer than the tail
  [4n, 5n, 4n, 'window'],
  [3n, 5n, 3n, 'window'],
  [2n, 5n, 3n, 'database'], // the next one is in the window, but not its own, whose tag could tell another history
  [1n, 5n, 3n, 'database'], // 2 has left the window
  [0n, 5n, undefined, 'database'],
] as const)('I2: at %s, with a tail at %s and a window from %s: %s', (position, last, windowFirst, step) => {
  expect(nextStep(position, { last, windowFirst })).toBe(step);
});

test('I2: live means nothing the tail has is lacking; window means it lacks nothing that is not in the window', () => {
  const offset = fc.bigInt({ min: 0n, max: 30n });
  fc.assert(
    fc.property(
      offset,
      offset,
      fc.option(fc.bigInt({ min: 1n, max: 30n }), { nil: undefined }),
      (position, last, windowFirst) => {
        const step = nextStep(position, { last, windowFirst });
        expect(step === 'live').toBe(position >= last);
        expect(step === 'window').toBe(
          position < last && windowFirst !== undefined && windowFirst <= position,
        );
      },
    ),
  );
});
