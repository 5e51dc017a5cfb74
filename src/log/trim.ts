// Trimming a stream by hand: its start moves at once, for every reader; the space comes back in the background.
import type { Database } from '../db/database.ts';
import { lockWaitMs } from '../db/lock-wait.ts';
import { shown } from '../util/shown.ts';
import { MAX_OFFSET } from './event.ts';

/** What to trim. Of several bounds, the one that takes most counts. */
export interface TrimOptions {
  /** Events before this offset go; `head + 1n`: all there are. */
  readonly before?: bigint | undefined;
  /** Events older than this go, in milliseconds. */
  readonly maxAgeMs?: number | undefined;
  /** All but the newest so many events go. */
  readonly maxCount?: number | undefined;
}

export interface Trimmed {
  /** The oldest offset that can be read now; `head + 1n` when there is none. */
  readonly oldest: bigint;
  /** How many events this call has taken away. */
  readonly removed: bigint;
}

/** @throws TypeError, RangeError for options that make no sense; SluiceError stream_not_found, overloaded */
export async function trimStream(
  database: Database,
  name: string,
  options: TrimOptions,
  waitMs: number,
): Promise<Trimmed> {
  const { before, maxAgeMs, maxCount } = checked(options);
  const [row] = await database.query<{ oldest: string; removed: string }>(
    `select oldest::text, removed::text from ${database.names.quoted}.trim_stream($1, $2, $3, $4, $5)`,
    [name, before?.toString() ?? null, maxAgeMs ?? null, maxCount ?? null, lockWaitMs(waitMs)],
  );
  return { oldest: BigInt(row?.oldest ?? 1), removed: BigInt(row?.removed ?? 0) };
}

function checked(options: TrimOptions): TrimOptions {
  const { before, maxAgeMs, maxCount } = options;
  if (before === undefined && maxAgeMs === undefined && maxCount === undefined) {
    throw new TypeError('nothing says what to trim; give before, maxAgeMs or maxCount');
  }
  if (before !== undefined && typeof before !== 'bigint') {
    throw new TypeError(`before is ${shown(before)}; give an offset as a bigint, such as 100n`);
  }
  if (before !== undefined && (before < 1n || before > MAX_OFFSET)) {
    throw new RangeError(`before is ${before}; give an offset from 1n to the head + 1n`);
  }
  for (const [name, value] of Object.entries({ maxAgeMs, maxCount })) {
    if (value === undefined || (Number.isSafeInteger(value) && value >= 0)) continue;
    throw new RangeError(
      `${name} is ${shown(value)}; give a whole number from 0 to ${Number.MAX_SAFE_INTEGER}`,
    );
  }
  return { before, maxAgeMs, maxCount };
}
