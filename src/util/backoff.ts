// How long to wait before try n: exponential with full jitter. Pure; the caller brings the randomness and the timer.
// Full jitter as in Marc Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).

export interface Backoff {
  readonly initialMs: number;
  readonly maxMs: number;
}

/**
 * Milliseconds to wait before retry number `attempt` (0 is the first), uniformly in [0, min(maxMs, initialMs · 2^attempt)).
 *
 * @param random a number in [0, 1)
 */
export const backoffMs = (attempt: number, { initialMs, maxMs }: Backoff, random: number): number =>
  random * Math.min(maxMs, initialMs * 2 ** Math.min(attempt, 50));

/** `ms` moved by up to ±20 %, so that processes started together do not poll together. */
export const jittered = (ms: number, random: number): number => ms * (0.8 + 0.4 * random);
