// Where a subscriber's next events come from: the one decision that joins replay and live delivery. Pure. Nothing may
// await between this answer and acting on it: that is why no event is lost or doubled at the join.

export type Step = 'live' | 'window' | 'database';

export interface TailRange {
  /** The last offset the tail has seen. */
  readonly last: bigint;
  /** The oldest offset in its window; undefined when the window is empty. */
  readonly windowFirst: bigint | undefined;
}

/**
 * `live`: the subscriber has all that the tail has (or more, from a page newer than the tail's): wait for the next wake.
 * `window`: all it lacks is in memory, and so is the event it stands on, whose tag says that they belong together.
 * `database`: it fell out of the window, or was never in it.
 */
export function nextStep(position: bigint, { last, windowFirst }: TailRange): Step {
  if (position >= last) return 'live';
  return windowFirst !== undefined && position >= windowFirst ? 'window' : 'database';
}
