// Guards the range of names that a prefix stands for: every name with the prefix lies in it and no other, in the order
// of UTF-8 bytes, which is the order of the index; at the ends of the code points too.
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { endOfPrefix } from '../../src/log/prefix.ts';

const compare = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));
const isInRange = (name: string, prefix: string): boolean => {
  const end = endOfPrefix(prefix);
  return compare(name, prefix) >= 0 && (end === undefined || compare(name, end) < 0);
};

/** Characters at the edges of UTF-8's lengths and of the surrogates, among few others, so that prefixes are hit. */
const characters = ['a', 'b', '%', '_', '\\', '\u007f', '\u0080', '\u07ff', '\u0800', '\ud7ff', '\ue000', '\uffff', '\u{10000}', '\u{10ffff}']; // prettier-ignore
const text = fc.array(fc.constantFrom(...characters), { maxLength: 4 }).map((some) => some.join(''));

test('the range of a prefix holds the names that start with it, and no others', () => {
  fc.assert(
    fc.property(text, text, (name, prefix) => {
      expect(isInRange(name, prefix)).toBe(name.startsWith(prefix));
    }),
    { numRuns: 5000 },
  );
});

test.each([
  ['', undefined],
  ['a', 'b'],
  ['a\ud7ff', 'a\ue000'],
  ['a\u{10ffff}\u{10ffff}', 'b'],
  ['\u{10ffff}', undefined],
])('%j ends before %j', (prefix, end) => {
  expect(endOfPrefix(prefix)).toBe(end);
});
