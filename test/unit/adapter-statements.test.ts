// Guards how a statement reaches libraries that write parameters their own way: a parameter is found wherever
// PostgreSQL sees one and nowhere else, and what Knex sends is what was meant.
import * as fc from 'fast-check';
import knex from 'knex';
import { describe, expect, test } from 'vitest';
import { toKnex } from '../../src/adapters/knex.ts';
import { splitParameters } from '../../src/adapters/placeholders.ts';
import { textArrayLiteral } from '../../src/db/array-literal.ts';

const values = ['one', 'two', 'three'];
const numbersIn = (text: string): number[] => splitParameters(text, values).numbers;

describe('parameters', () => {
  test('fragments stand around them', () => {
    expect(splitParameters('select $2, $1::text,$2', values)).toEqual({
      fragments: ['select ', ', ', '::text,', ''],
      numbers: [2, 1, 2],
    });
    expect(splitParameters('select 1', [])).toEqual({ fragments: ['select 1'], numbers: [] });
    expect(splitParameters('', [])).toEqual({ fragments: [''], numbers: [] });
  });

  test.each([
    ["'$1'"],
    ["'it''s $1'"],
    ["e'\\' $1'"],
    ["E'\\\\\\' $1'"],
    ['"$1"'],
    ['"a "" $1"'],
    ['$$ $1 $$'],
    ['$a$ $$ $1 $b$ $a$'],
    ['$é1$ $1 $é1$'],
    ['-- $1'],
    ['/* $1 */'],
    ['/* /* $1 */ $1 */'],
    ['/* $1'],
    ['name$1'],
    ['naïve$1'],
  ])('%s holds none', (text) => {
    expect(numbersIn(text)).toEqual([]);
  });

  test.each([
    ["'a'$1"],
    ["'\\'$1"], // a backslash is nothing special without an e
    ["name'\\'$1"], // nor after a name that ends in one
    ['"e"$1'],
    ['$$a$$$1'],
    ['$1 $a$ $1 $a$'],
    ['-- a\n$1'],
    ['1$1'],
    ['/* /* */ */$1'],
    ['a-$1'],
    ['a /$1'],
    ['($1)'],
    ['a=$1'],
    ["'open $1"],
  ])('%s holds one', (text) => {
    expect(numbersIn(text)).toEqual([1]);
  });

  test('one without a value is refused', () => {
    expect(() => splitParameters('select $4', values)).toThrow(
      new RangeError('the statement has a parameter $4, and there are 3 values'),
    );
    expect(() => splitParameters('select $0', values)).toThrow(RangeError);
  });
});

const client = knex({ client: 'pg' });

/** What Knex sends for a statement, with each parameter's value in its place. */
const sentBy = (text: string): string => {
  const { sql, bindings } = toKnex(text, values);
  const native = client
    .raw(sql, bindings as string[])
    .toSQL()
    .toNative();
  const { fragments, numbers } = splitParameters(native.sql, native.bindings);
  return merge(
    fragments,
    numbers.map((number) => native.bindings[number - 1]),
  );
};
const meantBy = (text: string): string => {
  const { fragments, numbers } = splitParameters(text, values);
  return merge(
    fragments,
    numbers.map((number) => values[number - 1]),
  );
};
const merge = (fragments: readonly string[], between: readonly unknown[]): string =>
  fragments
    .map((fragment, index) => fragment + (index < between.length ? `<${String(between[index])}>` : ''))
    .join('');

describe('Knex', () => {
  test.each([
    ['select $1::text, $3, $1'],
    ["select '?', '??', \"?\", $1 where a ? 'b' and c ?| $2 or d ?& $2 -- ?"],
    ["select ':name', $1::json, a::text"],
    ["select '\\'"],
    ["select e'\\'?', $$?$$, $1 ? $2"],
  ])('%s', (text) => {
    expect(sentBy(text)).toBe(meantBy(text));
  });

  test('an operator right before a parameter is set apart', () => {
    expect(sentBy('select a ?$1')).toBe('select a ? <one>');
    expect(sentBy('select $1?$2')).toBe('select <one>? <two>');
  });

  test('whatever statements are made of', () => {
    const pieces = ['$1', '$2', '$3', '?', '??', '?|', "'?'", "'$1'", '"a?"', '$$ ? $2 $$', "e'\\''"];
    const others = ['/* ? /* $1 */ */', '--?\n', ':a', '::text', 'name', '(', ',', '\\', '\n', 'é', 'a$1'];
    const piece = fc.constantFrom(...pieces, ...others);
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        const text = pieces.join(' ');
        expect(sentBy(text)).toBe(meantBy(text));
      }),
    );
  });

  test('what it cannot be given is refused before it is sent', () => {
    for (const text of ["select '\\?'", 'select "a\\??" from b', 'select a \\$1']) {
      expect(() => toKnex(text, values)).toThrow(RangeError);
    }
  });
});

test('a list as text is quoted throughout', () => {
  expect(textArrayLiteral([])).toBe('{}');
  expect(textArrayLiteral(['a', null, 'NULL', '', 'b,c', '"', '\\', '{}', ' '])).toBe(
    '{"a",NULL,"NULL","","b,c","\\"","\\\\","{}"," "}',
  );
});
