// What a handler threw, as it is stored with its event: bounded, and never an exception of its own, whatever it was.
import { inspect } from 'node:util';

/** As much of a stack as is stored. */
const MAX_CHARACTERS = 4000;

/** What was thrown, as text: never empty for want of a message, and without U+0000, which no text in PostgreSQL can hold. */
export const errorText = (error: unknown): string =>
  textOf(error).replaceAll('\0', '').slice(0, MAX_CHARACTERS);

function textOf(error: unknown): string {
  for (const read of [stackOf, inspected]) {
    try {
      const text = read(error);
      if (text !== undefined) return text;
    } catch {} // it has a getter that throws, say
  }
  return 'what was thrown cannot be read';
}

/** With `Error.prepareStackTrace` a stack may be anything. */
function stackOf(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  return typeof error.stack === 'string' ? error.stack : `${error.name}: ${error.message}`;
}

const inspected = (error: unknown): string =>
  typeof error === 'string' ? error : inspect(error, { depth: 3 });
