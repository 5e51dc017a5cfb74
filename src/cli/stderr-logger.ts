// The library's logger as the long-running commands have it: warnings and errors, one line each, on standard error.
import type { LoggerLike } from '../index.ts';
import { messageOf } from '../util/errors.ts';
import type { Context } from './context.ts';

export function stderrLogger({ out, signal }: Pick<Context, 'out' | 'signal'>): LoggerLike {
  const tell = (details: object, message: string): void => {
    const { error, err } = details as { readonly error?: unknown; readonly err?: unknown };
    const cause = error ?? err;
    out.warn(cause === undefined ? message : `${message} (${messageOf(cause)})`);
  };
  const ignore = (): void => {};
  // Connections that are lost while everything is being closed are no news.
  const warn = (details: object, message: string): void => {
    if (!signal.aborted) tell(details, message);
  };
  return { debug: ignore, info: ignore, warn, error: tell };
}
