// Guards the cursor, the one thing a client keeps: it must come back exactly as it was given out, and anything else
// must be refused, never misread as a place in some stream (I8, I9).
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  decodeCursor,
  encodeCursor,
  encodePosition,
  knowsAbsent,
  MAX_CURSOR_POSITIONS,
  NOT_YET,
  parseBase36,
  type CursorPosition,
} from '../../src/protocol/cursor.ts';
import { cursorOf } from '../../src/log/cursor-of.ts';
import { parsePosition } from '../../src/protocol/position.ts';

const maxInt8 = 2n ** 63n - 1n;

const position: fc.Arbitrary<CursorPosition> = fc.record({
  incarnation: fc.bigInt({ min: 1n, max: maxInt8 }),
  offset: fc.oneof(fc.constant(0n), fc.bigInt({ min: 0n, max: maxInt8 })),
  tag: fc.oneof(fc.constant(0), fc.constant(-1), fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })),
});
const positions = fc.uniqueArray(position, {
  minLength: 1,
  maxLength: MAX_CURSOR_POSITIONS,
  selector: ({ incarnation }) => incarnation,
});

test('I2: the cursor of an event is written like any other', () => {
  fc.assert(
    fc.property(position, ({ incarnation, offset, tag }) => {
      expect(cursorOf(incarnation, offset, tag)).toBe(encodePosition({ incarnation, offset, tag }));
    }),
  );
  for (const offset of [35n, 36n, 1295n, 1296n, 46_655n, 46_656n, 2n ** 53n - 1n, 2n ** 53n])
    expect(cursorOf(7n, offset, -1)).toBe(encodePosition({ incarnation: 7n, offset, tag: -1 }));
});

test('I2: a cursor decodes to the positions it was made of', () => {
  fc.assert(
    fc.property(positions, (given) => {
      expect(decodeCursor(encodeCursor(given))).toEqual(given);
    }),
  );
});

test('a cursor is safe in an SSE id, a header and a query, and is no offset, start or end', () => {
  fc.assert(
    fc.property(positions, (given) => {
      const cursor = encodeCursor(given);
      expect(cursor).toMatch(/^[0-9a-z.-]+$/);
      expect(encodeURIComponent(cursor)).toBe(cursor);
      expect(parsePosition(cursor)?.kind).toBe('cursor');
    }),
  );
});

// One text per position: two texts for one place could be compared and cached as two.
const canonical = (text: string): void => {
  const decoded = decodeCursor(text);
  if (decoded) expect(encodeCursor(decoded)).toBe(text);
};

test('I8: whatever is accepted is exactly what we would have written', () => {
  const alphabet = fc.constantFrom(...Array.from('0123456789abcxyzAZ.-_ \n\0é'));
  fc.assert(fc.property(fc.string({ unit: alphabet, maxLength: 60 }), canonical));
  fc.assert(
    fc.property(positions, fc.nat(), alphabet, fc.boolean(), (given, at, character, replace) => {
      const cursor = encodeCursor(given);
      const index = at % (cursor.length + 1);
      canonical(cursor.slice(0, index) + character + cursor.slice(index + (replace ? 1 : 0)));
    }),
  );
  fc.assert(fc.property(fc.string({ unit: 'binary' }), canonical));
});

const hostile: readonly string[] = [
  '',
  '.',
  '-',
  '--',
  '1-2',
  '1-2-',
  '-2-3',
  '1--3',
  '1-2-3-4',
  '1-2-3.',
  '.1-2-3',
  '1-2-3..4-5-6',
  '0-2-3', // no stream has incarnation 0; see NOT_YET
  '0-0-1',
  '0-1-0',
  '00-0-0',
  '01-2-3',
  '1-02-3',
  '1-2-03',
  '1-2-3\n',
  '\n1-2-3',
  ' 1-2-3',
  '1-2-3 ',
  '1-2-3\r\nid: 9-9-9',
  '1-2-3\0',
  'A-2-3',
  '1-+2-3',
  '1-0x2-3',
  '١-2-3',
  '１-2-3',
  '1−2−3',
  '1-2-1z141z4', // a tag of 33 bits
  '1-1y2p0ij32e8e8-0', // 2^63
  '1y2p0ij32e8e8-1-0',
  '1-zzzzzzzzzzzzz-0',
  '1-1-zzzzzzz',
  'zzzzzzzzzzzzzz-1-1',
  '1-10000000000000-1',
  'start',
  'end',
  '12',
  'null',
  'undefined',
  '__proto__',
  '1-2-3.__proto__',
  "1'; drop table events; --",
  '%31-2-3',
  '1-2-3#4',
  '1,2,3',
  '\u{1f600}',
  '\ud800',
  '1-2-3.1-2-3', // two places in one stream
  '1-2-3.4-5-6.1-4-5',
  '0-0-0.0-0-0',
  Array.from({ length: MAX_CURSOR_POSITIONS + 1 }, (_, index) => `${(index + 1).toString(36)}-1-1`).join('.'),
  '.'.repeat(100),
  '1-1-1.'.repeat(100_000),
  '9'.repeat(1_000_000),
];

test('I8: what nobody gave out is no cursor, however it looks', () => {
  for (const text of hostile) expect(decodeCursor(text), JSON.stringify(text.slice(0, 60))).toBeUndefined();
});

test('one position names no stream: it speaks of those that did not exist', () => {
  const some = { incarnation: 1n, offset: 2n, tag: 3 };
  expect(encodeCursor([some, NOT_YET])).toBe('1-2-3.0-0-0');
  expect(decodeCursor('1-2-3.0-0-0')).toEqual([some, NOT_YET]);
  expect([knowsAbsent([some, NOT_YET]), knowsAbsent([some])]).toEqual([true, false]);
});

test('the largest of everything is a cursor', () => {
  const largest = { incarnation: maxInt8, offset: maxInt8, tag: -1 };
  expect(encodePosition(largest)).toBe('1y2p0ij32e8e7-1y2p0ij32e8e7-1z141z3');
  const all = Array.from({ length: MAX_CURSOR_POSITIONS }, (_, index) => ({
    ...largest,
    incarnation: maxInt8 - BigInt(index),
  }));
  expect(decodeCursor(encodeCursor(all))).toEqual(all);
});

test('parseBase36 keeps every digit', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: maxInt8 }), (n) => {
      expect(parseBase36(n.toString(36))).toBe(n);
    }),
  );
});
