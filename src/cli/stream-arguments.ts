// The options by which `create` and `configure` say what a stream keeps and remembers.
import type { Command } from 'commander';
import type { StreamChanges, StreamOptions } from '../index.ts';
import { parseCount, parseDuration, parseSize } from './amounts.ts';
import { wrongUsage } from './command-error.ts';

export interface StreamArguments {
  readonly maxAge?: string | undefined;
  readonly maxCount?: string | undefined;
  readonly maxBytes?: string | undefined;
  readonly idempotencyWindow?: string | undefined;
}

export const addStreamOptions = (command: Command): Command =>
  command
    .option('--max-age <duration>', 'how long events are kept: 90s, 12h, 7d')
    .option('--max-count <n>', 'how many events are kept, the newest')
    .option('--max-bytes <size>', 'how much data is kept, of the newest events: 500MB, 2GiB')
    .option('--idempotency-window <duration>', 'how long an idempotency key is remembered (default 24h)');

const bound = (
  option: string,
  text: string | undefined,
  parse: (option: string, text: string) => number,
): number | undefined => {
  if (text === undefined) return undefined;
  const value = parse(option, text);
  if (value >= 1) return value;
  throw wrongUsage(`${option} is ${text}; give more than 0`);
};

/** @throws CommandError */
export const streamOptionsOf = ({
  maxAge,
  maxCount,
  maxBytes,
  idempotencyWindow,
}: StreamArguments): StreamOptions => ({
  maxAgeMs: bound('--max-age', maxAge, parseDuration),
  maxCount: bound('--max-count', maxCount, parseCount),
  maxBytes: bound('--max-bytes', maxBytes, parseSize),
  idempotencyWindowMs: bound('--idempotency-window', idempotencyWindow, parseDuration),
});

/** Like `streamOptionsOf`, where `none` takes a bound away. @throws CommandError */
export function streamChangesOf(given: StreamArguments): StreamChanges {
  const { maxAge, maxCount, maxBytes, idempotencyWindow } = given;
  if ([maxAge, maxCount, maxBytes, idempotencyWindow].every((text) => text === undefined)) {
    throw wrongUsage(
      'nothing says what to change: give --max-age, --max-count or --max-bytes, or none for no bound; or --idempotency-window',
    );
  }
  const kept = (text: string | undefined): string | undefined => (text === 'none' ? undefined : text);
  const bounds = streamOptionsOf({
    maxAge: kept(maxAge),
    maxCount: kept(maxCount),
    maxBytes: kept(maxBytes),
    idempotencyWindow: kept(idempotencyWindow),
  });
  return {
    maxAgeMs: maxAge === 'none' ? null : bounds.maxAgeMs,
    maxCount: maxCount === 'none' ? null : bounds.maxCount,
    maxBytes: maxBytes === 'none' ? null : bounds.maxBytes,
    idempotencyWindowMs: idempotencyWindow === 'none' ? null : bounds.idempotencyWindowMs,
  };
}
