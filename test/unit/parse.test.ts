// Guards the decoder of event streams: whatever the chunks, line ends and fields, it reads what the standard says (held
// against a stock parser), and beyond that keeps the ids of frames without data, which move our cursors (I9).
import { createParser, type EventSourceMessage } from 'eventsource-parser';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { framesOf } from '../../src/client/transport.ts';
import { encodeComment, encodeEvent, encodeIdOnly, encodeRetry } from '../../src/protocol/frames.ts';
import { createFrameParser, MAX_FRAME_CHARS, type Frame } from '../../src/protocol/parse.ts';

const parse = (...chunks: string[]): Frame[] => {
  const parser = createFrameParser();
  return chunks.flatMap((chunk) => parser.feed(chunk));
};
const cut = (text: string, sizes: readonly number[]): string[] => {
  const chunks: string[] = [];
  for (let from = 0, index = 0; from < text.length; index += 1) {
    const size = sizes[index % sizes.length]!;
    chunks.push(text.slice(from, from + size));
    from += size;
  }
  return chunks;
};
const sizes = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 8 });

const piece = fc.oneof(
  fc.constantFrom(
    'id',
    'data',
    'event',
    'retry',
    ': x',
    'data:',
    'data: ',
    'id:',
    'other: 1',
    '\0',
    '\uFEFF',
    '12',
  ),
  fc.constantFrom('\n', '\r', '\r\n', '\n\n', '\r\r', '\r\n\r\n', ':', ' '),
  fc.string({ unit: 'binary', maxLength: 5 }),
);
const soup = fc.array(piece, { maxLength: 40 }).map((pieces) => pieces.join(''));

/** A stock parser's reading. It takes a byte order mark for one of bytes decoded as Latin-1. */
const stock = (text: string): EventSourceMessage[] => {
  const messages: EventSourceMessage[] = [];
  const parser = createParser({ onEvent: (message) => messages.push(message) });
  // It waits after a CR, which may be half of CRLF; a comment line ends that.
  parser.feed(text);
  parser.feed(':\n');
  return messages;
};

describe('frames of any text', () => {
  test('do not depend on how it is cut', () => {
    fc.assert(
      fc.property(soup, sizes, (text, sizes) => {
        expect(parse(...cut(text, sizes))).toEqual(parse(text));
      }),
      { numRuns: 2000 },
    );
  });

  test('are what a stock parser dispatches, those without data apart', () => {
    fc.assert(
      fc.property(
        soup.filter((text) => !text.startsWith('ï»¿')),
        (text) => {
          const dispatched = parse(text)
            .filter(({ data }) => data !== undefined)
            .map(({ id, event, data }) => ({ id, event: event === '' ? undefined : event, data }));
          expect(dispatched).toEqual(stock(text));
        },
      ),
      { numRuns: 2000 },
    );
  });
});

test('I9: what we encode comes back, id-only frames included, whatever the line ends', () => {
  const frame = fc.record(
    {
      id: fc.stringMatching(/^[0-9a-z.-]{1,20}$/),
      event: fc.constantFrom('made', 'sluice:open'),
      data: fc.string({ unit: 'binary' }),
    },
    { requiredKeys: [] },
  );
  fc.assert(
    fc.property(fc.array(frame), fc.constantFrom('\n', '\r', '\r\n'), sizes, (frames, lineEnd, sizes) => {
      const said = frames.filter(({ id, data }) => id !== undefined || data !== undefined);
      const text = said
        .map(({ id, event, data }) =>
          data === undefined ? encodeComment('x') + encodeIdOnly(id!) : encodeEvent({ id, event, data }),
        )
        .join('');
      const expected = said.map(({ id, event, data }) => ({
        ...(id !== undefined && { id }),
        ...(data !== undefined && { ...(event && { event }), data: data.replace(/\r\n?/g, '\n') }),
      }));
      expect(parse(...cut(text.replaceAll('\n', lineEnd), sizes))).toEqual(expected);
    }),
  );
});

test.each([
  ['id: a\0b\n\n', []],
  ['id\n\n', [{ id: '' }]],
  ['data\n\n', [{ data: '' }]],
  ['data:a\ndata: b\n\n', [{ data: 'a\nb' }]],
  ['retry: 20\n\nretry: x\n\n', [{ retry: 20 }]],
  [encodeRetry(1500), [{ retry: 1500 }]],
  ['data: never ended\n', []],
  ['event: alone\n\n', [{ event: 'alone' }]],
])('%j', (text, frames) => {
  expect(parse(text)).toEqual(frames);
});

test('bytes: a byte order mark is dropped, characters may be cut anywhere, what is incomplete is dropped', async () => {
  const bytes = new TextEncoder().encode('\uFEFFid: 1\n\ndata: žluťoučký 🐎\n\ndata: lost');
  await fc.assert(
    fc.asyncProperty(sizes, async (sizes) => {
      const pieces = cut([...bytes].map((byte) => String.fromCharCode(byte)).join(''), sizes);
      const body = ReadableStream.from(pieces.map((piece) => Uint8Array.from(piece, (c) => c.charCodeAt(0))));
      const frames: Frame[] = [];
      for await (const some of framesOf(new Response(body))) frames.push(...some);
      expect(frames).toEqual([{ id: '1' }, { data: 'žluťoučký 🐎' }]);
    }),
    { numRuns: 30 },
  );
});

test('a line of 1 MiB in small pieces takes its time once, and memory is bounded (I7)', () => {
  const line = 'x'.repeat(1024 * 1024);
  const text = `data: ${line}\n\n`;
  expect(parse(...cut(text, [1000]))).toEqual([{ data: line }]);
  const parser = createFrameParser();
  const chunk = 'y'.repeat(1024 * 1024);
  expect(() => {
    for (let chars = 0; chars <= MAX_FRAME_CHARS; chars += chunk.length) parser.feed(chunk);
  }).toThrow(RangeError);
});
