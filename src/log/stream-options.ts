// What a stream keeps and remembers, as its owner sets it: checked here, before anything is sent, and stored with the
// stream. What enforces it is src/relay/retention.ts.
import type { Database } from '../db/database.ts';
import { lockWaitMs } from '../db/lock-wait.ts';
import { shown } from '../util/shown.ts';

/**
 * Bounds on what a stream keeps: the oldest events beyond any of them go, in the background. Default: everything is kept.
 * And how long its idempotency keys are remembered.
 */
export interface StreamOptions {
  /** Events older than this go, in milliseconds. */
  readonly maxAgeMs?: number | undefined;
  /** The newest so many events are kept. */
  readonly maxCount?: number | undefined;
  /** The newest events are kept that together have at least this many bytes of JSON data. */
  readonly maxBytes?: number | undefined;
  /** How long an idempotency key is remembered, in milliseconds. Default 24 hours; at most 100 years. */
  readonly idempotencyWindowMs?: number | undefined;
}

/** Options to change: null takes a bound away (or the default back), and one that is left out stays as it is. */
export type StreamChanges = { readonly [Option in keyof StreamOptions]: StreamOptions[Option] | null };

const OPTIONS = ['maxAgeMs', 'maxCount', 'maxBytes', 'idempotencyWindowMs'] as const;
const MAX_WINDOW_MS = 3_155_760_000_000;

/** The options as JSON text. @throws TypeError for an option there is not, RangeError for a value that is no bound */
export function streamOptionsText(options: StreamChanges): string {
  for (const name of Object.keys(options)) {
    if (!(OPTIONS as readonly string[]).includes(name)) {
      throw new TypeError(
        `${JSON.stringify(name)} is no option of a stream; there are ${OPTIONS.join(', ')}`,
      );
    }
  }
  for (const name of OPTIONS) {
    const value: unknown = options[name] ?? null;
    if (value === null || (Number.isSafeInteger(value) && (value as number) >= 1)) continue;
    throw new RangeError(
      `${name} is ${shown(value)}; give a whole number from 1 to ${Number.MAX_SAFE_INTEGER}`,
    );
  }
  const { idempotencyWindowMs } = options;
  if (typeof idempotencyWindowMs === 'number' && idempotencyWindowMs > MAX_WINDOW_MS) {
    throw new RangeError(`idempotencyWindowMs is ${idempotencyWindowMs}; give at most ${MAX_WINDOW_MS}`);
  }
  return JSON.stringify(options);
}

/** @throws SluiceError stream_not_found, overloaded (somebody holds the stream) */
export async function configureStream(
  database: Database,
  name: string,
  changes: StreamChanges,
  waitMs: number,
): Promise<void> {
  const text = streamOptionsText(changes);
  if (OPTIONS.every((option) => changes[option] === undefined)) {
    throw new TypeError(`nothing says what to change; give ${OPTIONS.join(', ')}, or null for no bound`);
  }
  await database.query(`select ${database.names.quoted}.configure_stream($1, $2, $3)`, [
    name,
    text,
    lockWaitMs(waitMs),
  ]);
}
