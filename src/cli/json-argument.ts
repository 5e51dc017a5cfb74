// The payload of append and publish as the command line gives it: a JSON value, or `-` (or nothing, when something is
// piped in) for NDJSON on standard input.
import { messageOf } from '../util/errors.ts';
import { CommandError, wrongUsage } from './command-error.ts';
import { parseJson } from './parse-json.ts';

export type Payload =
  | { readonly kind: 'value'; readonly value: unknown }
  | { readonly kind: 'input'; readonly input: AsyncIterable<Uint8Array>; readonly close: () => void };

/** @throws CommandError */
export function readPayload(argument: string | undefined): Payload {
  const { stdin } = process;
  if (argument === undefined && stdin.isTTY) {
    throw wrongUsage(
      'no event is given: give its JSON, such as \'{"id":1}\', or - to read NDJSON from standard input',
    );
  }
  // Destroyed at the end, because a writer that has not finished would keep the process alive.
  if (argument === undefined || argument === '-')
    return { kind: 'input', input: stdin, close: () => stdin.destroy() };
  try {
    return { kind: 'value', value: parseJson(argument) };
  } catch (error) {
    const shown = argument.length > 60 ? `${argument.slice(0, 60)}…` : argument;
    const what =
      error instanceof RangeError
        ? messageOf(error)
        : `is not JSON: ${messageOf(error)}; quote text as '"text"'`;
    throw new CommandError('payload_invalid', `${JSON.stringify(shown)} ${what}`, { exitCode: 2 });
  }
}
