// What a line (one connection to the server) does next: a total function from its state and what happened to the state
// that follows. Pure: time and chance come in, timers and fetches are the line's. A state that is not new is returned as
// the same object, so the line acts on changes alone.
import { backoffMs, jittered, type Backoff } from '../util/backoff.ts';

export interface Problem {
  /** Of the answer; 0 when there was none: the network, or something on this side. */
  readonly status: number;
  readonly title: string;
  readonly detail: string;
  /** One of the codes of SluiceError, where the server gave one. */
  readonly code?: string;
}

/** `attempt`: how many have failed, one after another. */
export type LineState =
  | { readonly kind: 'idle'; readonly attempt: 0 }
  /** `refused`: why the try before was turned away; for the headers function. */
  | { readonly kind: 'connecting'; readonly attempt: number; readonly refused?: Problem }
  | { readonly kind: 'live'; readonly attempt: number; readonly sinceMs: number }
  /** `firm`: the server named the time, so that nothing but time ends the wait. */
  | {
      readonly kind: 'waiting';
      readonly attempt: number;
      readonly delayMs: number;
      readonly firm: boolean;
      readonly problem?: Problem | undefined;
    }
  | {
      readonly kind: 'refused';
      readonly attempt: number;
      readonly delayMs: number;
      readonly problem: Problem;
    }
  | { readonly kind: 'failed'; readonly attempt: number; readonly problem: Problem }
  | { readonly kind: 'closed' };

export type LineInput =
  /** What is asked for has changed: connect anew, resuming. */
  | { readonly kind: 'restart' }
  | { readonly kind: 'opened' }
  /** Cut, ended, silent for too long, or never opened for a reason that passes. `waitMs`: not to come back before. */
  | {
      readonly kind: 'lost';
      readonly problem?: Problem | undefined;
      readonly waitMs?: number;
    }
  /** Turned away, for now. */
  | { readonly kind: 'refused'; readonly problem: Problem; readonly waitMs: number }
  /** Turned away for good. */
  | { readonly kind: 'rejected'; readonly problem: Problem }
  /** What was turned away is asked for in parts from now on. */
  | { readonly kind: 'split' }
  | { readonly kind: 'elapsed' }
  /** The network is back, or the page is seen again. */
  | { readonly kind: 'wake' }
  | { readonly kind: 'close' };

export interface Pace extends Backoff {
  /** Between tries that are refused. */
  readonly refusedRetryMs: number;
  /** Whether headers can be asked for again. */
  readonly canRefresh: boolean;
  readonly nowMs: number;
  /** In [0, 1). */
  readonly random: number;
}

/** A connection that lived this long was a good one: the next loss counts from the beginning. */
const STABLE_MS = 10_000;

/** The state after `input`. Total: what does not concern a state leaves it as it is. */
export function next(state: LineState, input: LineInput, pace: Pace): LineState {
  const { kind } = input;
  if (kind === 'close') return { kind: 'closed' };
  if (state.kind === 'connecting' || state.kind === 'live') return whileUp(state, input, pace);
  if (state.kind === 'idle') return kind === 'restart' ? connect(state) : state;
  if (state.kind === 'waiting')
    return kind === 'elapsed' || (kind === 'wake' && !state.firm) ? connect(state) : state;
  if (state.kind === 'refused' && (kind === 'restart' || kind === 'elapsed' || kind === 'wake'))
    return { ...connect(state), refused: state.problem };
  return kind === 'split' && state.kind !== 'closed' ? wait(state.attempt, pace, state.problem) : state;
}

type Up = Extract<LineState, { kind: 'connecting' | 'live' }>;
type Connecting = Extract<LineState, { kind: 'connecting' }>;

function whileUp(state: Up, input: LineInput, pace: Pace): LineState {
  if (input.kind === 'restart') return connect(state);
  if (input.kind === 'lost') {
    // A connection that came to something takes the failures before it back.
    const isStable = state.kind === 'live' && pace.nowMs - state.sinceMs >= STABLE_MS;
    return wait(isStable ? 0 : state.attempt, pace, input.problem, input.waitMs);
  }
  return state.kind === 'live' ? state : whileConnecting(state, input, pace);
}

function whileConnecting(state: Connecting, input: LineInput, pace: Pace): LineState {
  const { attempt } = state;
  if (input.kind === 'opened') return { kind: 'live', attempt, sinceMs: pace.nowMs };
  if (input.kind === 'rejected') return { kind: 'failed', attempt, problem: input.problem };
  if (input.kind !== 'refused') return state;
  const { problem, waitMs } = input;
  if (pace.canRefresh && !state.refused) return { ...state, refused: problem };
  const delayMs = Math.max(waitMs, jittered(pace.refusedRetryMs, pace.random));
  return { kind: 'refused', attempt: attempt + 1, delayMs, problem };
}

const connect = ({ attempt }: { readonly attempt: number }): Connecting => ({ kind: 'connecting', attempt });

function wait(attempt: number, pace: Pace, problem: Problem | undefined, waitMs = 0): LineState {
  const delayMs = waitMs + backoffMs(attempt, pace, pace.random);
  return { kind: 'waiting', attempt: attempt + 1, delayMs, firm: waitMs > 0, problem };
}
