// Which streams the next connection asks for, and from where. Streams with a position resume from it; streams that have
// none yet share what a request can say about them: any number of cursors, or one `after`. Those it cannot say now are
// left for the connection that follows, once these have positions. Pure.
import { isCursor } from './standing.ts';

/** A stream on a line. */
export interface Reading {
  readonly stream: string;
  /** Where it started. */
  readonly after: string;
  /** Where it stands; undefined before the first id. */
  readonly position?: string;
  /** The end of the stream when the line opened. */
  readonly head?: bigint;
}

export interface Asked<R> {
  readonly readings: readonly R[];
  /** Where streams start that no cursor knows; undefined is the end. */
  readonly after: string | undefined;
  /** The cursor to resume from; '' is none. */
  readonly lastEventId: string;
}

/** Streams on a connection. Servers take no more: MAX_CURSOR_POSITIONS of src/protocol/cursor.ts. */
export const MAX_STREAMS = 20;

export function chooseRequest<R extends Reading>(all: readonly R[]): Asked<R> {
  const resuming = all.filter(({ position }) => position);
  const starting = all.filter(({ position }) => !position);
  const [first] = starting;
  const now = starting.filter((reading) => first && groupOf(reading) === groupOf(first));
  const readings = [...resuming, ...now];
  const cursors = readings.map((reading) => reading.position ?? reading.after).filter(isCursor);
  const after = first && !isCursor(first.after) ? first.after : undefined;
  return { readings, after, lastEventId: [...new Set(cursors)].join('.') };
}

/** Streams that can start on one request: those from one offset; those at the end, or at a position that is surely theirs. */
const groupOf = ({ after }: Reading): string => (isCursor(after) && !isWide(after) ? 'end' : after);

/**
 * Whether a cursor may speak of other streams: one of several positions does not say which is whose, and `0-0-0` is for
 * all that it does not know.
 */
export const isWide = (after: string): boolean => /\.|^0-/.test(after);
