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
  readonly position: string | undefined;
  /** The end of the stream when the line opened. */
  readonly head: bigint | undefined;
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
  // A stream that a cursor does not know begins at the end, like one without a cursor.
  const isFloating = ({ after }: R): boolean => after === 'end' || isCursor(after);
  const starting = all.filter(({ position }) => !position);
  const floating = starting.filter(isFloating);
  const after = floating[0] ? undefined : starting[0]?.after;
  const now = floating[0] ? floating : starting.filter((reading) => reading.after === after);
  const readings = [...all.filter(({ position }) => position), ...now];
  const cursors = readings.map((reading) => reading.position ?? reading.after).filter(isCursor);
  return { readings, after, lastEventId: [...new Set(cursors)].join('.') };
}
