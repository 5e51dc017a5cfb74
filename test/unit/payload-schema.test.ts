// Guards what is made of a schema's answer: every answer that Standard Schema allows is understood, every other is a
// TypeError that says so, and a refusal names what is wrong, where, within bounds.
import { describe, expect, test } from 'vitest';
import { checkPayloadOptions, refusal } from '../../src/log/payload-schema.ts';
import { judge, type Verdict } from '../../src/util/standard-schema.ts';
import { refused, schemaOf } from '../support/payload-schemas.ts';

const verdictOf = async (answer: unknown): Promise<Verdict> =>
  judge(
    schemaOf(() => answer),
    'x',
  );
const refusalOf = async (answer: unknown): Promise<Error> => {
  const verdict = await verdictOf(answer);
  if (verdict.ok) throw new Error('it fits');
  return refusal(verdict, { what: 'this', remedy: 'mend it' });
};

describe('what may be given as a schema', () => {
  const standard = { version: 1, vendor: 'test', validate: () => ({ value: 1 }) };

  test('an object or a function with the standard member', () => {
    checkPayloadOptions({});
    checkPayloadOptions({ schema: undefined, validateOnRead: undefined });
    checkPayloadOptions({ schema: { '~standard': standard }, validateOnRead: true });
    checkPayloadOptions({ schema: Object.assign(() => {}, { '~standard': standard }) });
  });

  test.each([
    ['null', null, /options of a stream are null/],
    ['no schema at all', { schema: { parse: () => 1 } }, /no Standard Schema/],
    ['null as schema', { schema: null }, /no Standard Schema/],
    ['a member that is nothing', { schema: { '~standard': null } }, /no Standard Schema/],
    ['no validate', { schema: { '~standard': { version: 1, vendor: 'test' } } }, /validate function/],
    ['another version', { schema: { '~standard': { ...standard, version: 2 } } }, /version 2/],
    ['validateOnRead without a schema', { validateOnRead: true }, /needs a schema/],
    ['validateOnRead of another type', { schema: { '~standard': standard }, validateOnRead: 1 }, /number/],
  ])('%s is a TypeError', (_, options, message) => {
    expect(() => checkPayloadOptions(options)).toThrow(TypeError);
    expect(() => checkPayloadOptions(options)).toThrow(message);
  });
});

describe('what a schema answers', () => {
  test('a value, also undefined, at once or later', async () => {
    expect(
      judge(
        schemaOf(() => ({ value: 1 })),
        'x',
      ),
    ).toEqual({ ok: true, value: 1 });
    expect(await verdictOf(Promise.resolve({ value: undefined, issues: undefined }))).toEqual({
      ok: true,
      value: undefined,
    });
  });

  test('issues, with paths of keys or of segments, and nothing else of them is kept', async () => {
    const issues = [
      { message: 'a', path: ['b', 0, { key: 'c', value: 'secret' }], code: 'd' },
      { message: 'no path' },
    ];
    expect(await verdictOf({ issues, value: 'typed, but refused' })).toEqual({
      ok: false,
      issues: [
        { message: 'a', path: ['b', 0, 'c'] },
        { message: 'no path', path: [] },
      ],
    });
  });

  test('it throws, or rejects: the payload is refused, with the cause', async () => {
    const cause = new Error('boom');
    const throwing = schemaOf(() => {
      throw cause;
    });
    expect(judge(throwing, 'x')).toEqual({ ok: false, issues: undefined, cause });
    expect(await verdictOf(Promise.reject(cause))).toEqual({ ok: false, issues: undefined, cause });
  });

  test.each([
    ['nothing', undefined],
    ['null', null],
    ['true', true],
    ['an empty object', {}],
    ['what a library of its own makes', { success: false, error: {} }],
    ['issues that are no list', { issues: 'bad' }],
    ['an issue without a message', { issues: [{ path: [] }] }],
    ['a path that is no list', { issues: [{ message: 'a', path: 'b' }] }],
    ['a path of something else', { issues: [{ message: 'a', path: [{}] }] }],
  ])('%s, which it may not: a TypeError, at once or later', async (_, answer) => {
    const told = /a Standard Schema answers \{ value \}/;
    expect(() =>
      judge(
        schemaOf(() => answer),
        'x',
      ),
    ).toThrow(TypeError);
    expect(() =>
      judge(
        schemaOf(() => answer),
        'x',
      ),
    ).toThrow(told);
    await expect(verdictOf(Promise.resolve(answer))).rejects.toThrow(told);
  });
});

describe('what a refusal says', () => {
  test.each([
    [[], 'this: wrong; mend it'],
    [['id'], 'this: id: wrong; mend it'],
    [['items', 0, 'größe'], 'this: items[0].größe: wrong; mend it'],
    [[1, 'a b', ''], 'this: [1]["a b"][""]: wrong; mend it'],
    [[Symbol('s')], 'this: [Symbol(s)]: wrong; mend it'],
  ])('the path %j as one would write it in code', async (path, message) => {
    const error = await refusalOf(refused('wrong', ...path));
    expect(error).toMatchObject({ code: 'payload_invalid', retryable: false, message });
    expect(error).toMatchObject({ issues: [{ message: 'wrong', path }] });
  });

  test('at most five issues and two hundred characters of each; the member has them all', async () => {
    const error = await refusalOf({
      issues: Array.from({ length: 9 }, () => ({ message: 'x'.repeat(999) })),
    });
    expect(error.message.length).toBeLessThan(1100);
    expect(error.message).toMatch(/x…; and 4 more; mend it$/);
    expect(error).toMatchObject({ issues: { length: 9 } });
  });

  test('no issue in the list, and a schema that threw', async () => {
    expect((await refusalOf({ issues: [] })).message).toBe('this: the schema named no issue; mend it');
    const cause = new Error('boom');
    const error = await refusalOf(Promise.reject(cause));
    expect(error).toMatchObject({ message: 'this: the schema threw "boom"; mend it', issues: undefined });
    expect(error.cause).toBe(cause);
  });
});
