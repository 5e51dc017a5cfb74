// Guards what `after` may be: exactly one meaning per text, nothing clamped, guessed or read leniently (I8).
import { inspect } from 'node:util';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { encodeCursor } from '../../src/protocol/cursor.ts';
import { parsePosition } from '../../src/protocol/position.ts';

const maxInt8 = 2n ** 63n - 1n;

test('I8: an offset means the same as a bigint and as a decimal string', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: maxInt8 }), (offset) => {
      expect(parsePosition(offset)).toEqual({ kind: 'offset', offset });
      expect(parsePosition(String(offset))).toEqual({ kind: 'offset', offset });
    }),
  );
});

test('start, end and cursors', () => {
  expect(parsePosition('start')).toEqual({ kind: 'start' });
  expect(parsePosition('end')).toEqual({ kind: 'end' });
  const place = { incarnation: 7n, offset: 9n, tag: -3 };
  expect(parsePosition(encodeCursor([place]))).toEqual({ kind: 'cursor', positions: [place] });
});

const none: readonly unknown[] = [
  -1n,
  2n ** 63n,
  '9223372036854775808',
  '99999999999999999999',
  '-1',
  '+1',
  '01',
  '1.0',
  '1e3',
  '0x10',
  ' 1',
  '1\n',
  '1_000',
  '١٢',
  'Start',
  'START',
  'end ',
  '',
  'latest',
  '-',
  12,
  0,
  Number.NaN,
  null,
  undefined,
  true,
  {},
  ['start'],
  new Date(0),
  Object('start'),
];

test('I8: what only resembles a position is none', () => {
  for (const value of none) expect(parsePosition(value), inspect(value)).toBeUndefined();
});

test('anything at all is a position or undefined, never an error', () => {
  fc.assert(
    fc.property(fc.anything({ withBigInt: true, withDate: true }), (value) => void parsePosition(value)),
  );
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      const parsed = parsePosition(text);
      if (parsed?.kind === 'offset') expect(String(parsed.offset)).toBe(text);
      if (parsed?.kind === 'cursor') expect(encodeCursor(parsed.positions)).toBe(text);
    }),
  );
});
