// Whether a reader may join what another reads already: only where both stand at the same place of the same history. Who
// stands elsewhere, or nearly there, reads on a line of its own, and the server judges what it missed (I8). Pure. Loaded
// with rearrange.ts.
import { decodeCursor } from '../protocol/cursor.ts';
import type { Reading } from './request.ts';

/** Whether a reading has come to where the stream ended when its line opened, and so is live. */
export function isLive({ position = '', head }: Reading): boolean {
  const [place] = decodeCursor(position) ?? [];
  return place !== undefined && head !== undefined && place.offset >= head;
}

/** Whether a newcomer that starts after this stands where the reading stands. */
export const canJoin = (after: string, reading: Reading): boolean =>
  after === 'end' ? isLive(reading) : !!reading.position && after.split('.').includes(reading.position);
