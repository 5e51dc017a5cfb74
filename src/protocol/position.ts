// What a caller may give as `after`: an offset, a cursor, 'start' or 'end'. Strict: nothing is clamped or guessed.
// Pure; shared with the client.
import { decodeCursor, type CursorPosition } from './cursor.ts';

/** An offset, or a string: a cursor, a decimal offset, 'start' or 'end'. */
export type Position = bigint | string;

export type ParsedPosition =
  | { readonly kind: 'start' }
  | { readonly kind: 'end' }
  | { readonly kind: 'offset'; readonly offset: bigint }
  | { readonly kind: 'cursor'; readonly positions: readonly CursorPosition[] };

const DECIMAL = /^(0|[1-9][0-9]{0,18})$/;
const MAX_INT8 = 2n ** 63n - 1n;

/** Undefined for anything that is not a position. Never throws. */
export function parsePosition(value: unknown): ParsedPosition | undefined {
  if (value === 'start' || value === 'end') return { kind: value };
  if (typeof value === 'bigint')
    return value >= 0n && value <= MAX_INT8 ? { kind: 'offset', offset: value } : undefined;
  if (typeof value !== 'string') return undefined;
  if (DECIMAL.test(value)) return parsePosition(BigInt(value));
  const positions = decodeCursor(value);
  return positions && { kind: 'cursor', positions };
}
