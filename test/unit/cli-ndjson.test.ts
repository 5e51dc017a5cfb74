// Guards the reading of NDJSON: the same lines whatever chunks the bytes come in, a bad line named by its number with
// everything before it delivered, and no more held than a chunk and one bounded line.
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readNdjson, type JsonLine } from '../../src/cli/ndjson.ts';

async function* inChunks(bytes: Uint8Array, cuts: readonly number[]): AsyncGenerator<Uint8Array> {
  const ends = [...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
  let from = 0;
  for (const end of ends) {
    yield bytes.subarray(from, end);
    from = end;
  }
}

interface All {
  readonly lines: JsonLine[];
  readonly error: string | undefined;
}

const readAll = async (
  text: string | Uint8Array,
  cuts: readonly number[] = [],
  maxLineBytes?: number,
): Promise<All> => {
  const lines: JsonLine[] = [];
  let error: string | undefined;
  const bytes = typeof text === 'string' ? Buffer.from(text) : text;
  for await (const batch of readNdjson(inChunks(bytes, cuts), maxLineBytes)) {
    expect(error).toBeUndefined();
    lines.push(...batch.lines);
    error = batch.error?.message;
  }
  return { lines, error };
};

const cuts = fc.array(fc.nat(), { maxLength: 30 });
const lineEnd = fc.constantFrom('\n', '\r\n', '\n\n', '\n \t\n');

test('any values, any line ends, any chunks', () =>
  fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.jsonValue(), lineEnd)),
      fc.boolean(),
      cuts,
      async (values, ends, cuts) => {
        const text = values.map(([value, end]) => JSON.stringify(value) + end).join('');
        const { lines, error } = await readAll(ends ? text : text.trimEnd(), cuts);
        expect(error).toBeUndefined();
        expect(lines.map(({ value }) => value)).toEqual(
          values.map(([value]) => JSON.parse(JSON.stringify(value)) as unknown),
        );
        const physical = text.split('\n');
        for (const { number, value } of lines) expect(JSON.parse(physical[number - 1]!)).toEqual(value);
      },
    ),
  ));

test('a bad line is named, after everything before it and before anything behind it', () =>
  fc.assert(
    fc.asyncProperty(fc.nat(20), fc.nat(20), cuts, async (before, after, cuts) => {
      const good = (count: number): string => '1\n'.repeat(count);
      const { lines, error } = await readAll(`${good(before)}{oops}\n${good(after)}`, cuts);
      expect(lines).toHaveLength(before);
      expect(error).toMatch(new RegExp(`^line ${before + 1} is not JSON: `));
    }),
  ));

describe('what is no line', () => {
  test.each<[string, string | Uint8Array, string]>([
    ['bytes that are not UTF-8', Buffer.from([0x22, 0xc3, 0x28, 0x22, 0x0a]), 'line 1 is not UTF-8'],
    ['a character cut off at the end', Buffer.from([0x22, 0xe2, 0x82]), 'line 1 is not UTF-8'],
    ['half a value', '{"a":', 'line 1 is not JSON'],
    ['two values', '1 2\n', 'line 1 is not JSON'],
    ['a byte order mark that is not at the start', '1\n\ufeff2\n', 'line 2 is not JSON'],
  ])('%s', async (_, text, message) => {
    expect((await readAll(text)).error).toContain(message);
  });

  test('one that is longer than is held', () =>
    fc.assert(
      fc.asyncProperty(cuts, async (cuts) => {
        const { lines, error } = await readAll(`1\n"${'x'.repeat(200)}`, cuts, 100);
        expect([lines.length, error]).toEqual([1, 'line 2 is longer than 100 bytes']);
      }),
    ));
});

test('a byte order mark at the start is left out', async () => {
  expect((await readAll('\ufeff{"a":1}\n')).lines).toEqual([{ number: 1, value: { a: 1 } }]);
});

test('nothing is nothing', async () => {
  expect(await readAll('')).toEqual({ lines: [], error: undefined });
});
