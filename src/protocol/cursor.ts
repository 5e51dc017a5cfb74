// Cursors: opaque strings that say where a reader stands. One position per stream: its incarnation, the offset last
// seen, and that event's tag, so that a cursor from another history is recognised and never misread. Characters are
// limited to [0-9a-z.-], safe in an SSE id, a header and a query. Pure; shared with the client.

export interface CursorPosition {
  /** The stream's incarnation. */
  readonly incarnation: bigint;
  /** The last offset seen; 0n before the first event. */
  readonly offset: bigint;
  /** The tag of the event at `offset`; 0 at offset 0n. A signed 32-bit integer. */
  readonly tag: number;
}

/**
 * Stands in a watermark for the streams that did not exist when it was taken: one that the cursor does not know starts
 * at its beginning. No stream has incarnation 0.
 */
export const NOT_YET: CursorPosition = { incarnation: 0n, offset: 0n, tag: 0 };

/** Whether a cursor speaks of streams that did not exist when it was made. */
export const knowsAbsent = (positions: readonly CursorPosition[]): boolean =>
  positions.some(({ incarnation }) => incarnation === NOT_YET.incarnation);

/** Streams in one cursor at most; a longer one is refused before it is looked at. */
export const MAX_CURSOR_POSITIONS = 20;

const MAX_INT8 = 2n ** 63n - 1n;
const POSITION = /^([1-9a-z][0-9a-z]{0,12})-(0|[1-9a-z][0-9a-z]{0,12})-(0|[1-9a-z][0-9a-z]{0,6})$/;

export const encodePosition = ({ incarnation, offset, tag }: CursorPosition): string =>
  `${incarnation.toString(36)}-${offset.toString(36)}-${(tag >>> 0).toString(36)}`;

const NOT_YET_TEXT = encodePosition(NOT_YET);

/** The cursor of a connection: one position per stream. */
export const encodeCursor = (positions: readonly CursorPosition[]): string =>
  positions.map(encodePosition).join('.');

/** The positions in a cursor; undefined if the text is not a cursor. Never throws. */
export function decodeCursor(text: string): CursorPosition[] | undefined {
  if (text.length > MAX_CURSOR_POSITIONS * 36) return undefined;
  const parts = text.split('.');
  if (parts.length > MAX_CURSOR_POSITIONS) return undefined;
  const positions = new Map<bigint, CursorPosition>();
  for (const part of parts) {
    const position = decodePosition(part);
    // A stream stands in one place: two of them would leave to chance which one counts.
    if (!position || positions.has(position.incarnation)) return undefined;
    positions.set(position.incarnation, position);
  }
  return [...positions.values()];
}

function decodePosition(text: string): CursorPosition | undefined {
  if (text === NOT_YET_TEXT) return NOT_YET;
  const match = POSITION.exec(text);
  if (!match) return undefined;
  const [, incarnationText = '', offsetText = '', tagText = ''] = match;
  const incarnation = parseBase36(incarnationText);
  const offset = parseBase36(offsetText);
  const tag = Number.parseInt(tagText, 36);
  if (incarnation > MAX_INT8 || offset > MAX_INT8 || tag > 0xffff_ffff) return undefined;
  return { incarnation, offset, tag: tag | 0 };
}

/** BigInt has no radix argument, and Number loses digits above 2^53. */
export function parseBase36(text: string): bigint {
  let value = 0n;
  for (const digit of text) value = value * 36n + BigInt(Number.parseInt(digit, 36));
  return value;
}
