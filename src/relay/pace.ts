// How long the relay rests between two passes while it is awake: the shorter, the sooner an event arrives; the longer, the
// more events share a pass, whose fixed cost is that of fifty events. Pure.

/** Between passes that find nothing while publishers keep the relay from sleeping: at least, and at most. */
const MIN_PAUSE_MS = 1;
const MAX_IDLE_PAUSE_MS = 25;
/** Under load, passes may take this part of the time. */
const DUTY = 0.15;
const MAX_BUSY_PAUSE_MS = 100;
/** A pass that moves no more than this is one publisher's, waiting for what it published: passes may take half the time. */
const FEW_EVENTS = 2;
const DUTY_OF_FEW = 0.5;
/** Above so many events a millisecond more of them share a pass: it rests so long for each beyond, and for so long at most. */
const BUSY_PER_MS = 1.25;
const PAUSE_PER_RATE_MS = 50;
const MAX_SHARING_PAUSE_MS = 40;
/** A pass that moves so many and leaves some is behind; one that moves fewer has met a stream that somebody holds. */
const BACKLOG = 500;

export interface Passed {
  readonly moved: number;
  /** Something is or may be left. */
  readonly more: boolean;
  /** Of the server's time: seen from here, a busy process or a slow disk would count as work, and events would wait for it. */
  readonly spentMs: number;
  /** Events moved, by the milliseconds since the pass before it began; 0 for the first one. */
  readonly perMs: number;
}

/**
 * Milliseconds to rest after a pass. `before` is the pass before it: one pass that was held up does not make a busy relay.
 * `idle` counts the passes in a row that moved nothing.
 */
export function restAfter(
  { moved, more, spentMs, perMs }: Passed,
  before: Passed | undefined,
  idle: number,
): number {
  if (moved === 0) return idlePause(idle);
  if (more && moved >= BACKLOG) return MIN_PAUSE_MS; // what waits is more than one pass takes
  const spent = Math.min(spentMs, before?.spentMs ?? spentMs);
  const duty = moved <= FEW_EVENTS ? DUTY_OF_FEW : DUTY;
  return Math.min(
    MAX_BUSY_PAUSE_MS,
    Math.max(MIN_PAUSE_MS, restForDuty(spent, duty), sharingPause(perMs, before)),
  );
}

// By the rate and not by the number: events of a pass that came late are no more a second. The lower one of two passes:
// one transaction with many events is no load.
const sharingPause = (perMs: number, before: Passed | undefined): number =>
  Math.min(MAX_SHARING_PAUSE_MS, PAUSE_PER_RATE_MS * (Math.min(perMs, before?.perMs ?? 0) - BUSY_PER_MS));

/** Milliseconds to rest after so many of work, which then take the part `duty` (0 to 1) of the time. */
export const restForDuty = (spentMs: number, duty: number): number => spentMs / duty - spentMs;

/** Milliseconds between looks that find nothing: twice as long each time, up to a bound. */
export const idlePause = (looks: number): number => Math.min(MAX_IDLE_PAUSE_MS, MIN_PAUSE_MS * 2 ** looks);
