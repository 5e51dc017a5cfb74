// Guards the rules for the names users choose. A name that passes here must fit every place it travels to: a frame of
// the event stream, a log line, PostgreSQL's text. test/db/publish.test.ts checks that SQL judges the same.
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CONTROL_EVENTS, streamNameProblem, typeProblem } from '../../src/protocol/wire.ts';

const bytes = (text: string): number => Buffer.byteLength(text);
const isWellFormed = (text: string): boolean => Buffer.from(text).toString() === text;

describe('stream names', () => {
  test.each([
    ['a'],
    ['orders'],
    ['orders/eu/42'],
    ['ORDERS ñ 注文 🧾'],
    [' '],
    ["'"],
    ['"'],
    ['\\'],
    ['%'],
    ['$$'],
    ['..'],
    ['null'],
    ['\u2028'],
    ['é'.repeat(256)],
    ['🧾'.repeat(128)],
  ])('%j is one', (name) => expect(streamNameProblem(name)).toBeUndefined());

  test.each([
    [''],
    ['a'.repeat(513)],
    ['é'.repeat(257)],
    ['🧾'.repeat(129)],
    ['a\nb'],
    ['a\rb'],
    ['\0'],
    ['\u007f'],
    ['\u0085'],
    ['\u009f'],
    ['\ud800'],
    ['a\udc00'],
    [undefined],
    [null],
    [1],
    [{}],
  ])('I9: %j is none', (name) => expect(streamNameProblem(name)).toMatch(/stream name/));

  test('exactly 1 to 512 bytes of UTF-8 without control characters', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (name) => {
        const valid = bytes(name) >= 1 && bytes(name) <= 512 && isWellFormed(name) && !/\p{Cc}/u.test(name);
        expect(streamNameProblem(name) === undefined).toBe(valid);
      }),
    );
  });

  test('a long one is not repeated whole in its message', () => {
    expect(streamNameProblem('a'.repeat(10_000_000))?.length).toBeLessThan(200);
  });
});

describe('event types', () => {
  test.each([['order.placed'], ['Open'], ['errors'], ['sluice'], ['message'], ['é'.repeat(64)], [' ']])(
    '%j is one',
    (type) => expect(typeProblem(type)).toBeUndefined(),
  );

  test.each([
    [''],
    ['open'],
    ['error'],
    ['sluice:reset'],
    ['sluice:'],
    ['a\nb'],
    ['a\rdata: forged'],
    ['\0'],
    ['\u0085'],
    ['\ud800'],
    ['a'.repeat(129)],
    ['é'.repeat(65)],
    [1],
    [null],
  ])('I9: %j is none', (type) => expect(typeProblem(type)).toMatch(/event type/));

  test('I9: no type can pass for a control event', () => {
    for (const reserved of Object.values(CONTROL_EVENTS)) expect(typeProblem(reserved)).toMatch(/reserved/);
  });
});
