// Guards that no number changes on its way from the command line into a stream: one that a double cannot hold is refused
// by name, wherever it stands, and nothing else is.
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseJson } from '../../src/cli/parse-json.ts';

test.each([
  ['12345678901234567890', '12345678901234567000'],
  ['9007199254740993', '9007199254740992'],
  ['{"id":[1,{"a b":-9007199254740993}]}', '-9007199254740992'],
  ['1e400', 'Infinity'],
  ['[1,-2.5E+999]', '-Infinity'],
  [`["a\\"", ${'9'.repeat(400)}]`, 'Infinity'],
])('%s is refused: a number in it would be kept as %s', (text, kept) => {
  const number = /(?<![\d.])-?\d{2,}[\de.E+]*|-2\.5E\+999|1e400/.exec(text)![0];
  const shown = number.length > 60 ? `${number.slice(0, 60)}…` : number;
  expect(() => parseJson(text)).toThrow(
    new RangeError(`has the number ${shown}, which would be kept as ${kept}; give it as a string`),
  );
});

test.each([
  ['"12345678901234567890 1e400"'],
  ['{"12345678901234567890":"\\\\"}'],
  ['9007199254740992'],
  ['100000000000000000000'], // twenty-one digits, and a double holds it
  ['0.12345678901234567890'], // a fraction, which everybody rounds
  ['1e-400'],
  ['1e21'],
])('%s is taken', (text) => {
  expect(parseJson(text)).toEqual(JSON.parse(text));
});

test('whatever JavaScript writes as JSON is taken as it is', () =>
  fc.assert(
    fc.property(fc.json({ maxDepth: 4 }), (text) => {
      expect(parseJson(text)).toEqual(JSON.parse(text));
    }),
  ));

test('a string of any length and content is passed over', () => {
  const text = JSON.stringify([9_007_199_254_740_992, '"\n'.repeat(1_000_000), '1'.repeat(4_000_000)]);
  expect(parseJson(text)).toEqual(JSON.parse(text));
});

test('what is not JSON is told as before', () => {
  expect(() => parseJson('12345678901234567890 1')).toThrow(SyntaxError);
});
