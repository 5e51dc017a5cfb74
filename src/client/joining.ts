// Whether a reader may join what another reads already: only where it misses nothing. Pure. Loaded with rearrange.ts.
import { decodeCursor, type CursorPosition } from '../protocol/cursor.ts';
import { parsePosition } from '../protocol/position.ts';
import type { Reading } from './request.ts';

const standing = ({ position = '' }: Reading): CursorPosition | undefined => decodeCursor(position)?.[0];

/** Whether one who stands at `a` has all that comes up to `b`, in the same history. */
const hasReached = (a: CursorPosition, b: CursorPosition): boolean =>
  a.incarnation === b.incarnation && a.offset >= b.offset;

/** Whether a reading has come to where the stream ended when its line opened, and so is live. */
export function isLive(reading: Reading): boolean {
  const place = standing(reading);
  return place !== undefined && reading.head !== undefined && place.offset >= reading.head;
}

/** The position of a newcomer that joins this reading; undefined if it would miss something there. */
export function joinAt(after: string, reading: Reading): string | undefined {
  const place = standing(reading);
  const start = parsePosition(after);
  if (!place || !start) return undefined;
  if (start.kind === 'end') return isLive(reading) ? reading.position : undefined;
  if (start.kind === 'cursor') {
    const index = start.positions.findIndex((each) => hasReached(each, place));
    return after.split('.')[index];
  }
  const offset = start.kind === 'start' ? 0n : start.offset;
  return offset === place.offset ? reading.position : undefined;
}
