// NDJSON from a stream of bytes: one JSON value per line, empty lines left out, each with its line number so that a bad
// one can be named. Yields the complete lines of each chunk together, so that a slow writer's lines do not wait and a
// fast one's come in bulk. Never holds more than a chunk and one unfinished line, which is bounded too.
import { CommandError } from './command-error.ts';
import { messageOf } from '../util/errors.ts';
import { parseJson } from './parse-json.ts';

/** Longer than any event that would be accepted, with room for white space. */
const MAX_LINE_BYTES = 4 * 2 ** 20;

const NEWLINE = 0x0a;

export interface JsonLine {
  readonly number: number;
  readonly value: unknown;
}

/** Good lines, and what was wrong with the one after them, which ends the input. */
export interface JsonLines {
  readonly lines: readonly JsonLine[];
  readonly error?: CommandError | undefined;
}

export async function* readNdjson(
  input: AsyncIterable<Uint8Array>,
  maxLineBytes: number = MAX_LINE_BYTES,
): AsyncGenerator<JsonLines, void, undefined> {
  const unfinished: Uint8Array[] = [];
  let size = 0;
  let number = 0;
  for await (const chunk of input) {
    const found: Uint8Array[] = [];
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, from)) {
      found.push(join(unfinished.splice(0), chunk.subarray(from, end)));
      from = end + 1;
      size = 0;
    }
    unfinished.push(chunk.subarray(from));
    size += chunk.length - from;
    const batch = parseLines(found, number);
    number += found.length;
    if (batch.lines.length > 0 || batch.error !== undefined) yield batch;
    if (batch.error !== undefined) return;
    if (size > maxLineBytes) {
      yield { lines: [], error: badLine(number + 1, `is longer than ${maxLineBytes} bytes`) };
      return;
    }
  }
  yield parseLines([join(unfinished, new Uint8Array())], number);
}

const join = (parts: readonly Uint8Array[], last: Uint8Array): Uint8Array =>
  parts.length === 0 ? last : Buffer.concat([...parts, last]);

function parseLines(found: readonly Uint8Array[], before: number): JsonLines {
  const lines: JsonLine[] = [];
  for (const [index, bytes] of found.entries()) {
    const number = before + index + 1;
    try {
      // Without ignoreBOM a byte order mark at the start of the line would pass, and only the first may have one.
      const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: number > 1 }).decode(bytes);
      if (text.trim() !== '') lines.push({ number, value: parseJson(text) });
    } catch (error) {
      return { lines, error: badLine(number, whatIsWrong(error)) };
    }
  }
  return { lines };
}

const whatIsWrong = (error: unknown): string => {
  if (error instanceof RangeError) return messageOf(error);
  return error instanceof SyntaxError ? `is not JSON: ${messageOf(error)}` : 'is not UTF-8';
};

export const badLine = (number: number, what: string, code = 'payload_invalid'): CommandError =>
  new CommandError(code, `line ${number} ${what}`);
