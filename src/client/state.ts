// What a line (one connection to the server) does next: a total function from its state and what happened to the state
// that follows. Pure: time and chance come in, timers and fetches are the line's. A state that is not new is returned as
// the same object, so the line acts on changes alone.
import { backoffMs, jittered } from '../util/backoff.ts';
import type { Problem } from './problem.ts';

export type LineState =
  | { readonly kind: 'idle' }
  /** `refused`: why the try before was turned away; for the headers function. */
  | { readonly kind: 'connecting'; readonly attempt: number; readonly refused: Problem | undefined }
  | { readonly kind: 'live'; readonly attempt: number; readonly sinceMs: number }
  /** `firm`: the server named the time, so that nothing but time ends the wait. */
  | {
      readonly kind: 'waiting';
      readonly attempt: number;
      readonly delayMs: number;
      readonly firm: boolean;
      readonly problem: Problem | undefined;
    }
  | {
      readonly kind: 'refused';
      readonly attempt: number;
      readonly delayMs: number;
      readonly problem: Problem;
    }
  | { readonly kind: 'failed'; readonly problem: Problem }
  | { readonly kind: 'closed' };

export type LineInput =
  /** What is asked for has changed: connect anew, resuming. */
  | { readonly kind: 'restart' }
  | { readonly kind: 'opened'; readonly nowMs: number }
  /** Cut, ended, silent for too long, or never reached. */
  | { readonly kind: 'lost'; readonly nowMs: number; readonly problem?: Problem | undefined }
  | { readonly kind: 'answered'; readonly problem: Problem; readonly retryAfterMs: number }
  | { readonly kind: 'shutdown'; readonly retryMs: number }
  /** What was refused is asked for in parts from now on. */
  | { readonly kind: 'split' }
  | { readonly kind: 'elapsed' }
  /** The network is back, or the page is seen again. */
  | { readonly kind: 'wake' }
  | { readonly kind: 'close' };

export interface Pace {
  /** The base of the backoff: what the server's `retry:` said last. */
  readonly initialMs: number;
  readonly maxMs: number;
  /** Between tries that are refused. */
  readonly refusedMs: number;
  /** Whether headers can be asked for again. */
  readonly canRefresh: boolean;
  /** In [0, 1). */
  readonly random: number;
}

/** A connection that lived this long was a good one: the next loss counts from the beginning. */
const STABLE_MS = 10_000;
/** No server can send a client away for longer. */
const MAX_DELAY_MS = 3_600_000;

/** Answers that more of the same will not change, but another token or a new stream may. */
const REFUSALS = [401, 403, 404];
/** Client errors that a later try may not meet. */
const PASSING = [408, 425, 429];

/** The state after `input`. Total: what does not concern a state leaves it as it is. */
export function next(state: LineState, input: LineInput, pace: Pace): LineState {
  const { kind } = input;
  if (kind === 'close') return { kind: 'closed' };
  switch (state.kind) {
    case 'idle':
      return kind === 'restart' ? connect(state) : state;
    case 'connecting':
    case 'live':
      return whileUp(state, input, pace);
    case 'waiting':
      return kind === 'elapsed' || (kind === 'wake' && !state.firm) ? connect(state) : state;
    case 'refused':
      if (kind === 'split') return wait(state.attempt, pace, state.problem);
      return kind === 'restart' || kind === 'elapsed' || kind === 'wake' ? connect(state) : state;
    case 'failed':
      return kind === 'split' ? wait(0, pace, state.problem) : state;
    case 'closed':
      break; // for good
  }
  return state;
}

type Up = Extract<LineState, { kind: 'connecting' | 'live' }>;

function whileUp(state: Up, input: LineInput, pace: Pace): LineState {
  if (input.kind === 'restart') return connect(state);
  if (input.kind === 'lost') return wait(failuresOf(state, input.nowMs), pace, input.problem);
  if (input.kind === 'shutdown') {
    const delayMs = Math.min(input.retryMs, MAX_DELAY_MS);
    return { kind: 'waiting', attempt: 0, delayMs, firm: true, problem: undefined };
  }
  if (state.kind === 'live') return state;
  if (input.kind === 'opened') return { kind: 'live', attempt: state.attempt, sinceMs: input.nowMs };
  return input.kind === 'answered' ? answered(state, input, pace) : state;
}

const connect = (state: LineState): LineState => ({
  kind: 'connecting',
  attempt: 'attempt' in state ? state.attempt : 0,
  refused: state.kind === 'refused' ? state.problem : undefined,
});

/** A connection that came to something takes the failures before it back. */
const failuresOf = (state: Up, nowMs: number): number =>
  state.kind === 'live' && nowMs - state.sinceMs >= STABLE_MS ? 0 : state.attempt;

function wait(attempt: number, pace: Pace, problem: Problem | undefined, atLeastMs = 0): LineState {
  const delayMs = Math.min(atLeastMs, MAX_DELAY_MS) + backoffMs(attempt, pace, pace.random);
  return { kind: 'waiting', attempt: attempt + 1, delayMs, firm: atLeastMs > 0, problem };
}

function answered(
  state: Extract<Up, { kind: 'connecting' }>,
  { problem, retryAfterMs }: Extract<LineInput, { kind: 'answered' }>,
  pace: Pace,
): LineState {
  const { status } = problem;
  if (REFUSALS.includes(status)) {
    if (pace.canRefresh && !state.refused) return { ...state, refused: problem };
    const delayMs = Math.min(Math.max(retryAfterMs, jittered(pace.refusedMs, pace.random)), MAX_DELAY_MS);
    return { kind: 'refused', attempt: state.attempt + 1, delayMs, problem };
  }
  if (status >= 400 && status < 500 && !PASSING.includes(status)) return { kind: 'failed', problem };
  return wait(state.attempt, pace, problem, retryAfterMs);
}
