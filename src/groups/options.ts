// What users may say about a group and about consuming it, with the defaults, checked.
import type { Position } from '../protocol/position.ts';
import type { Backoff } from '../util/backoff.ts';
import { within, wholeWithin } from '../util/bounds.ts';

export interface GroupOptions {
  /** Where a group begins that does not exist yet: strictly after it. Default 'start'. */
  readonly from?: Position | undefined;
  /** An event that failed so often by its own fault is given up: it becomes a dead letter. Default 10. */
  readonly maxAttempts?: number | undefined;
  /** How long a failed event waits: full jitter, exponential. Default 1 000 to 600 000 milliseconds. */
  readonly backoff?:
    | { readonly initialMs?: number | undefined; readonly maxMs?: number | undefined }
    | undefined;
  /** Events of one key are handled one after another. Partitions (1 to 1024) are what members share; fixed for good. */
  readonly keyed?: { readonly partitions: number } | undefined;
  /**
   * How long after an event came retention spares it if the group has not handled it, in milliseconds, up to 100 years.
   * 0, the default of a new group: not at all. Kept with the group: undefined leaves it as it is. `trim` is not held back.
   */
  readonly holdMs?: number | undefined;
}

export interface ConsumeOptions {
  /** Handlers at a time. Default 1. */
  readonly concurrency?: number | undefined;
  /** `consume`: events held ready for fast handlers, at most; default 1 000. `consumeBatch`: events of a batch, at most; default 100. */
  readonly maxBatch?: number | undefined;
  /** After this long without a sign of life, what a consumer had is handed out again, in milliseconds. Default 30 000; 100 to a day. */
  readonly leaseMs?: number | undefined;
  /** A handler that takes longer has failed, and its signal aborts, in milliseconds. Default: none; at most a day. */
  readonly handlerTimeoutMs?: number | undefined;
  /** Events per second of the whole group, on all processes that say so. Default: no bound. */
  readonly throttle?: { readonly perSecond: number } | undefined;
  /** After `failures` in a row nothing is begun for `pauseMs` milliseconds; one more then pauses again. Default: none. */
  readonly breaker?: { readonly failures: number; readonly pauseMs: number } | undefined;
  /** How long handlers may take to finish once the end was asked for, in milliseconds. Default 10 000; at most a day. */
  readonly drainMs?: number | undefined;
  /** Ends consuming. */
  readonly signal?: AbortSignal | undefined;
}

export interface ClaimOptions {
  /** Events at most, 1 to 10 000. Default 100. */
  readonly max?: number | undefined;
  /** How long nobody else is handed these events, in milliseconds. Default 30 000; 100 to a day. */
  readonly leaseMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface GroupSettings {
  readonly from: Position;
  readonly maxAttempts: number;
  readonly backoff: Backoff;
  readonly partitions: number | null;
  readonly holdMs: number | undefined;
}

export interface ConsumeSettings {
  readonly concurrency: number;
  readonly maxBatch: number;
  readonly leaseMs: number;
  readonly handlerTimeoutMs: number | undefined;
  readonly perSecond: number | undefined;
  readonly breaker: { readonly failures: number; readonly pauseMs: number } | undefined;
  readonly drainMs: number;
}

const DAY_MS = 86_400_000;
/** How long a lease may last. */
export const LEASE_MS: readonly [number, number] = [100, DAY_MS];
export const MAX_CLAIM = 10_000;

/** @throws TypeError, RangeError */
export function settleGroup(options: GroupOptions): GroupSettings {
  const { from = 'start', maxAttempts = 10, backoff, keyed, holdMs } = options;
  const initialMs = within('backoff.initialMs', backoff?.initialMs ?? 1000, [1, DAY_MS]);
  const maxMs = within('backoff.maxMs', backoff?.maxMs ?? Math.max(600_000, initialMs), [
    initialMs,
    366 * DAY_MS,
  ]);
  return {
    from,
    maxAttempts: wholeWithin('maxAttempts', maxAttempts, [1, 1_000_000]),
    backoff: { initialMs, maxMs },
    partitions: keyed ? wholeWithin('keyed.partitions', keyed.partitions, [1, 1024]) : null,
    holdMs: holdMs === undefined ? undefined : wholeWithin('holdMs', holdMs, [0, 3_155_760_000_000]),
  };
}

/** @throws TypeError, RangeError */
export function settleConsume(options: ConsumeOptions, defaultMaxBatch: number): ConsumeSettings {
  const { concurrency = 1, maxBatch = defaultMaxBatch, leaseMs = 30_000, drainMs = 10_000 } = options;
  const { handlerTimeoutMs, throttle, breaker } = options;
  return {
    concurrency: wholeWithin('concurrency', concurrency, [1, 10_000]),
    maxBatch: wholeWithin('maxBatch', maxBatch, [1, MAX_CLAIM]),
    leaseMs: within('leaseMs', leaseMs, LEASE_MS),
    handlerTimeoutMs:
      handlerTimeoutMs === undefined ? undefined : within('handlerTimeoutMs', handlerTimeoutMs, [1, DAY_MS]),
    perSecond:
      throttle === undefined
        ? undefined
        : within('throttle.perSecond', throttle.perSecond, [0.001, 1_000_000]),
    breaker: breaker && {
      failures: wholeWithin('breaker.failures', breaker.failures, [1, 1_000_000]),
      pauseMs: within('breaker.pauseMs', breaker.pauseMs, [1, DAY_MS]),
    },
    drainMs: within('drainMs', drainMs, [0, DAY_MS]),
  };
}

/** @throws RangeError */
export function settleClaim({ max = 100, leaseMs = 30_000 }: ClaimOptions): { max: number; leaseMs: number } {
  return {
    max: wholeWithin('max', max, [1, MAX_CLAIM]),
    leaseMs: within('leaseMs', leaseMs, LEASE_MS),
  };
}
