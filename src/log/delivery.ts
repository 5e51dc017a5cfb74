// What a caller may ask for beside the event itself, checked before anything is sent: an idempotency key, an expected
// offset, a later time of delivery.
import { wallClockMs } from '../util/clock.ts';
import { SluiceError } from '../util/errors.ts';
import { shown } from '../util/shown.ts';
import { MAX_OFFSET } from './event.ts';

/** Bytes of UTF-8 in an idempotency key, at most. */
const MAX_IDEMPOTENCY_KEY_BYTES = 255;

/** @throws SluiceError name_invalid */
export function checkIdempotencyKey(key: unknown): asserts key is string | undefined {
  if (key === undefined) return;
  if (typeof key !== 'string') {
    throw new SluiceError('name_invalid', `the idempotency key must be a string, not ${typeof key}`);
  }
  const shown = JSON.stringify(key.slice(0, 80));
  if (key.includes('\0') || /\p{Cs}/u.test(key)) {
    throw new SluiceError(
      'name_invalid',
      `idempotency key ${shown} holds U+0000 or a lone surrogate; use other characters`,
    );
  }
  const bytes = Buffer.byteLength(key);
  if (bytes < 1 || bytes > MAX_IDEMPOTENCY_KEY_BYTES) {
    throw new SluiceError(
      'name_invalid',
      `idempotency key ${shown} has ${bytes} bytes; use 1 to ${MAX_IDEMPOTENCY_KEY_BYTES}, such as a UUID or a hash`,
    );
  }
}

/** @throws TypeError, RangeError */
export function checkExpectedOffset(offset: unknown): asserts offset is bigint | undefined {
  if (offset === undefined) return;
  if (typeof offset !== 'bigint') {
    const given = typeof offset === 'number' ? `the number ${offset}` : `of type ${typeof offset}`;
    throw new TypeError(`expectedOffset is ${given}; give a bigint, such as head + 1n`);
  }
  if (offset < 1n) throw new RangeError(`expectedOffset is ${offset}; the first offset of a stream is 1`);
  if (offset > MAX_OFFSET) {
    throw new RangeError(`expectedOffset is ${offset}; offsets end at ${MAX_OFFSET}`);
  }
}

/** When an event is due: the arguments of the SQL function, as text; null: now. */
export interface DueTime {
  readonly deliverAt: string | null;
  readonly delayMs: string | null;
}

/** @throws TypeError for both or for a wrong type, RangeError for one below 0 or beyond maxDelayMs */
export function dueTime(
  { deliverAt, delayMs }: { readonly deliverAt?: Date | undefined; readonly delayMs?: number | undefined },
  maxDelayMs: number,
): DueTime | undefined {
  if (deliverAt !== undefined && delayMs !== undefined) {
    throw new TypeError('deliverAt and delayMs are both given; give one of them');
  }
  if (delayMs !== undefined) {
    if (typeof delayMs !== 'number' || !(delayMs >= 0 && delayMs <= maxDelayMs)) {
      throw new RangeError(
        `delayMs is ${shown(delayMs)}; give a number of milliseconds from 0 to ${maxDelayMs}`,
      );
    }
    return delayMs === 0 ? undefined : { deliverAt: null, delayMs: String(delayMs) };
  }
  if (deliverAt === undefined) return undefined;
  if (!(deliverAt instanceof Date) || Number.isNaN(deliverAt.getTime())) {
    throw new TypeError(`deliverAt is ${shown(deliverAt)}; give a valid Date`);
  }
  if (deliverAt.getTime() < 0) return undefined; // long past, and maybe nothing the server could read
  if (deliverAt.getTime() - wallClockMs() > maxDelayMs) {
    throw new RangeError(
      `deliverAt is ${deliverAt.toISOString()}, more than ${maxDelayMs} ms from now; raise maxDelayMs, or publish it later`,
    );
  }
  return { deliverAt: deliverAt.toISOString(), delayMs: null };
}
