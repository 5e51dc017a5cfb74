// What ends a command before it is done, and what the user is told of it: one line, a code for programs, an exit code.
// 1: it failed; 2: the command line was wrong. Nothing else decides about exit codes.
import { CommanderError } from 'commander';
import { SluiceError } from '../index.ts';
import { messageOf } from '../util/errors.ts';

export interface CommandErrorOptions {
  readonly exitCode?: 1 | 2 | undefined;
  readonly cause?: unknown;
}

export class CommandError extends Error {
  override readonly name = 'CommandError';
  readonly code: string;
  readonly exitCode: 1 | 2;

  constructor(code: string, message: string, { exitCode = 1, cause }: CommandErrorOptions = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.exitCode = exitCode;
  }
}

/** The command line cannot be obeyed as it is. */
export const wrongUsage = (message: string): CommandError =>
  new CommandError('usage', message, { exitCode: 2 });

/** What the user is told. */
export interface Failure {
  readonly code: string;
  readonly message: string;
  readonly exitCode: 1 | 2;
  /** With `cursor_expired` and `cursor_reset`: where reading can go on. */
  readonly cursor?: string | undefined;
}

/** These can only come from an argument. */
const ARGUMENT_CODES: ReadonlySet<string> = new Set(['name_invalid', 'cursor_invalid']);

export function toFailure(error: unknown): Failure {
  if (error instanceof CommandError) {
    const { code, message, exitCode } = error;
    return { code, message, exitCode };
  }
  if (error instanceof CommanderError) {
    return {
      code: 'usage',
      message: error.message.replace(/^error: /, '').replace(/\n\(/, ' ('),
      exitCode: 2,
    };
  }
  if (error instanceof SluiceError) {
    const { code, oldestCursor: cursor } = error;
    return {
      code,
      message: `${error.message}${remedyOf(error)}`,
      exitCode: ARGUMENT_CODES.has(code) ? 2 : 1,
      cursor,
    };
  }
  // A number that a command passed on as it was given.
  if (error instanceof RangeError) return { code: 'usage', message: error.message, exitCode: 2 };
  return { code: 'failed', message: messageOf(error), exitCode: 1 };
}

function remedyOf({ code, message, oldestCursor }: SluiceError): string {
  if (oldestCursor !== undefined) return `: --after ${oldestCursor}`;
  if (code === 'stream_exists') return '; use it as it is, or change it with `sluice configure`';
  const isBare = code === 'stream_not_found' && message.endsWith('does not exist');
  return isBare ? '; `sluice streams` lists those that do' : '';
}
