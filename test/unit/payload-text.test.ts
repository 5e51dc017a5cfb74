// Guards that nothing is stored as {} or null that did not say so: what JSON writes as nothing is refused by name, and
// what is empty, or answers for itself, is taken.
import { runInNewContext } from 'node:vm';
import { expect, onTestFinished, test } from 'vitest';
import { payloadText } from '../../src/log/event.ts';

const written = (data: unknown): string => payloadText(data, 1000);

test.each<[string, unknown]>([
  ['NaN', Number.NaN],
  ['Infinity', Number.POSITIVE_INFINITY],
  ['Number', new Number(Number.NaN)],
  ['Date', new Date(Number.NaN)],
  ['Date', runInNewContext('new Date(NaN)')],
  ['Map', new Map([[1, 2]])],
  ['Set', runInNewContext('new Set([1])')],
  ['WeakMap', new WeakMap()],
  ['WeakSet', new WeakSet()],
  ['RegExp', /x/],
  ['Error', new TypeError('lost')],
  ['Error', runInNewContext('new Error("lost")')],
  ['ArrayBuffer', new ArrayBuffer(4)],
  ['DataView', new DataView(new ArrayBuffer(4))],
  ['Headers', new Headers({ a: 'b' })],
  ['AbortSignal', new AbortController().signal],
  ['Symbol', Object(Symbol('x'))],
  ['Map', new Proxy(new Map(), {})],
  ['an iterable', { [Symbol.iterator]: () => [1].values() }],
])('%s is refused', (name, data) => {
  expect(() => written(data)).toThrow(
    expect.objectContaining({
      code: 'payload_invalid',
      message: expect.stringMatching(
        new RegExp(`^the data \\(${name}\\) would be written as .+ and be lost; give what it holds as plain`),
      ),
    }),
  );
});

test('a promise is refused, and what was forgotten is named', () => {
  expect(() => written(Promise.resolve({ id: 1 }))).toThrow(/^the data \(Promise\) .+; await it$/);
});

class Order {
  declare readonly id?: number;

  constructor(id?: number) {
    if (id !== undefined) this.id = id;
  }
}
const answers = (json: unknown): object => ({ toJSON: () => json });

test.each<[string, unknown, string]>([
  ['null', null, 'null'],
  ['nothing', {}, '{}'],
  ['nothing, of another realm', runInNewContext('({})'), '{}'],
  ['nothing, without a prototype', Object.create(null), '{}'],
  ['something without a prototype', Object.assign(Object.create(null), { a: 1 }), '{"a":1}'],
  ['members that are left out', { a: undefined, b: () => 1 }, '{}'],
  ['an instance', new Order(7), '{"id":7}'],
  ['an instance with nothing in it', new Order(), '{}'],
  ['an empty list', [], '[]'],
  ['a boxed string', new String('a'), '"a"'],
  ['a boxed number', new Number(1), '1'],
  ['a date', new Date(0), '"1970-01-01T00:00:00.000Z"'],
  ['a Buffer', Buffer.from('a'), '{"type":"Buffer","data":[97]}'],
  ['bytes', new Uint8Array([1]), '{"0":1}'],
  ['no bytes', new Uint8Array(), '{}'],
  ['an answer of null', answers(null), 'null'],
  ['an answer of nothing', answers({}), '{}'],
  ['a Map that answers', Object.assign(new Map(), answers({})), '{}'],
  ['a number that answers', Object.assign(new Number(Number.NaN), answers(null)), 'null'],
  ['a date that answers', Object.assign(new Date(0), answers(null)), 'null'],
  ['an invalid date that answers', Object.assign(new Date(Number.NaN), answers(null)), 'null'],
])('%s is taken as it is', (_, data, text) => {
  expect(written(data)).toBe(text);
});

test('a bigint is taken as what its toJSON says', () => {
  const prototype = BigInt.prototype as { toJSON?: () => unknown };
  onTestFinished(() => void delete prototype.toJSON);
  prototype.toJSON = () => ({});
  expect(written(1n)).toBe('{}');
  prototype.toJSON = () => null;
  expect(written(1n)).toBe('null');
});
