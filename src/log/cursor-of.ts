// The cursor of an event, as encodePosition writes it and several times faster: each event that is handed to anybody has
// one. Pure.
import { encodePosition } from '../protocol/cursor.ts';

const DIGITS = '0123456789abcdefghijklmnopqrstuvwxyz';
const PAIRS: readonly string[] = Array.from({ length: 36 * 36 }, (_, n) => n.toString(36).padStart(2, '0'));

/** The events of one stream follow each other. */
let last = { incarnation: 0n, text: '0' };

export function cursorOf(incarnation: bigint, offset: bigint, tag: number): string {
  if (offset > Number.MAX_SAFE_INTEGER) return encodePosition({ incarnation, offset, tag });
  if (last.incarnation !== incarnation) last = { incarnation, text: incarnation.toString(36) };
  return `${last.text}-${text36(Number(offset))}-${text36(tag >>> 0)}`;
}

// Number.prototype.toString takes half a microsecond for what is no small integer, as most tags are not.
function text36(value: number): string {
  let text = '';
  let rest = value;
  while (rest >= PAIRS.length) {
    const quotient = Math.floor(rest / PAIRS.length);
    text = (PAIRS[rest - quotient * PAIRS.length] as string) + text;
    rest = quotient;
  }
  return (rest < DIGITS.length ? DIGITS.charAt(rest) : (PAIRS[rest] as string)) + text;
}
