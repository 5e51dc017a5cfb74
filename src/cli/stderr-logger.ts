// The library's logger as the long-running commands have it: warnings and errors, one line each, on standard error.
import type { LoggerLike } from '../index.ts';
import { messageOf } from '../util/errors.ts';
import type { Output } from './output.ts';

export function stderrLogger(out: Output): LoggerLike {
  const tell = (details: object, message: string): void => {
    const { error, err } = details as { readonly error?: unknown; readonly err?: unknown };
    const cause = error ?? err;
    out.warn(cause === undefined ? message : `${message} (${messageOf(cause)})`);
  };
  return { debug: () => {}, info: () => {}, warn: tell, error: tell };
}
