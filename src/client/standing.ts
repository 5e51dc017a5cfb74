// Where readers stand, as the text that travels: positions are those of src/protocol/cursor.ts (incarnation, offset,
// tag), and a cursor is some of them, joined by dots. Pure.
import type { Position } from '../protocol/position.ts';
import { SluiceError } from '../util/errors.ts';

const START = /^(start|end|\d{1,19}|\w[\w.]*-[\w.-]+)$/;

/** The text on the wire of where to start. @throws SluiceError cursor_invalid for what could be none; servers look closer */
export function startText(after: Position): string {
  const text = String(after);
  if (START.test(text)) return text;
  throw new SluiceError('cursor_invalid', `${text} is no position`);
}

/** A cursor has a dash in every position; offsets, `start` and `end` have none. */
export const isCursor = (text: string): boolean => text.includes('-');
