// Guards that no number changes on its way from the command line into a stream: one that a double cannot hold is refused
// by name, wherever it stands, and nothing else is.
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseJson } from '../../src/cli/parse-json.ts';

test.each([
  ['12345678901234567890', '12345678901234567000'],
  ['9007199254740993', '9007199254740992'],
  ['18446744073709551616', '18446744073709552000'], // a double holds it, and the text that is stored says another
  ['-12345678901234567890.0', '-12345678901234567000'],
  ['12345678901234567890e0', '12345678901234567000'],
  ['123456789012345678900E-1', '12345678901234567000'],
  ['1234567890.1234567890e10', '12345678901234567000'],
  ['0.00012345678901234567e+20', '12345678901234568'],
  ['10000000000000000000001', '1e+22'],
  ['1e400', 'null'],
  ['-2.5E+999', 'null'],
  ['9'.repeat(400), 'null'],
  ['1e99999999999999999999', 'null'],
  ['1e-400', '0'],
  ['-1.5E-0400', '0'],
  [`0.${'0'.repeat(400)}1`, '0'],
])('%s is refused: it would be kept as %s', (number, kept) => {
  const shown = number.length > 60 ? `${number.slice(0, 60)}…` : number;
  const refusal = new RangeError(
    `has the number ${shown}, which would be kept as ${kept}; give it as a string`,
  );
  for (const text of [number, `{"id":[1,{"a \\"b":${number}}],"c":0.5}`])
    expect(() => parseJson(text)).toThrow(refusal);
});

test.each([
  ['"12345678901234567890 1e400"'],
  ['{"12345678901234567890":"\\\\"}'],
  ['9007199254740992'],
  ['100000000000000000000'],
  ['100000000000000000000000'], // written as 1e+23: the same number
  ['-1000.00000000000000000000e+20'],
  ['1200000000000000000000000e-5'],
  ['1.7976931348623157e308'],
  ['0.12345678901234567890'], // a fraction, which everybody rounds
  ['1234567890123456.7890'],
  ['5e-324'],
  ['1e21'],
  ['0e400'],
  ['-0.0000000000000000000e-999'],
])('%s is taken', (text) => {
  expect(parseJson(text)).toEqual(JSON.parse(text));
});

test('a number of any length is looked at once', () => {
  const zeros = '0'.repeat(1_000_000);
  expect(() => parseJson(`1${zeros}1`)).toThrow('would be kept as null');
  expect(parseJson(`1.${zeros}1`)).toBe(1);
  expect(parseJson(`0.${zeros}`)).toBe(0);
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
