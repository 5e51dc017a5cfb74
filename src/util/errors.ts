// The one error class of the public API and its closed set of codes. Programmer errors (a wrong type, a number out of
// range) are TypeError and RangeError instead. Messages say what happened, with values, and what to do about it.

export type SluiceErrorCode =
  | 'stream_not_found'
  | 'stream_exists'
  | 'stream_closed'
  | 'offset_conflict'
  | 'cursor_expired'
  | 'cursor_reset'
  | 'cursor_invalid'
  | 'lease_lost'
  | 'payload_invalid'
  | 'payload_too_large'
  | 'name_invalid'
  | 'tx_required'
  | 'overloaded'
  | 'schema_mismatch'
  | 'permission_denied'
  | 'unsupported_server'
  | 'listener_unavailable'
  | 'connection_lost'
  | 'closed';

/** Codes after which the same call may succeed later without a change. */
const RETRYABLE: ReadonlySet<SluiceErrorCode> = new Set([
  'overloaded',
  'connection_lost',
  'listener_unavailable',
]);

/** What a schema found wrong with a payload, as Standard Schema tells it, with a path of bare keys. */
export interface PayloadIssue {
  readonly message: string;
  /** From the payload's root, which is the empty path. */
  readonly path: readonly PropertyKey[];
}

export interface SluiceErrorOptions {
  readonly cause?: unknown;
  /** With `cursor_expired` and `cursor_reset`: the oldest offset there is, and the cursor that resumes from it. */
  readonly oldest?: bigint | undefined;
  readonly oldestCursor?: string | undefined;
  /** With `offset_conflict`: the stream's head. */
  readonly head?: bigint | undefined;
  /** With `payload_invalid` from a schema: see the members of SluiceError. */
  readonly issues?: readonly PayloadIssue[] | undefined;
  readonly index?: number | undefined;
  readonly stream?: string | undefined;
  readonly offset?: bigint | undefined;
  readonly cursor?: string | undefined;
}

/**
 * What Sluice throws. Branch on `code`; `retryable` says whether the same call may succeed later.
 *
 * @example
 * if (error instanceof SluiceError && error.code === 'stream_not_found') …
 */
export class SluiceError extends Error {
  override readonly name = 'SluiceError';
  readonly code: SluiceErrorCode;
  readonly retryable: boolean;
  /** With `cursor_expired` and `cursor_reset`: the oldest offset that can be read. */
  declare readonly oldest: bigint | undefined;
  /** With `cursor_expired` and `cursor_reset`: resumes just before `oldest`. */
  declare readonly oldestCursor: string | undefined;
  /** With `offset_conflict`: the last offset of the stream; the next one is one more. */
  declare readonly head: bigint | undefined;
  /** With `payload_invalid`: what the stream's schema found wrong. Undefined if it was no schema, or if it threw (`cause`). */
  declare readonly issues: readonly PayloadIssue[] | undefined;
  /** Of a batch: which of its events was refused, counted from 0. */
  declare readonly index: number | undefined;
  /** With `payload_invalid` on reading: the stream of the event that does not fit the schema. */
  declare readonly stream: string | undefined;
  /** With `payload_invalid` on reading: its offset. */
  declare readonly offset: bigint | undefined;
  /** With `payload_invalid` on reading: goes on just after it. */
  declare readonly cursor: string | undefined;

  constructor(code: SluiceErrorCode, message: string, { cause, ...facts }: SluiceErrorOptions = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.retryable = RETRYABLE.has(code);
    Object.assign(this, facts); // the members declared above
  }
}

/** Anything that was thrown, as an error. */
export const asError = (error: unknown): Error => (error instanceof Error ? error : new Error(String(error)));

/** The message of anything that was thrown. */
export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
