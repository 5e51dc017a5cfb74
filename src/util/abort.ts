// Waiting that can be ended: timers and events raced against an AbortSignal, leaving no listener behind.
import { deferred } from './deferred.ts';

/** Throws `signal.reason` if the signal is aborted. */
export const throwIfAborted = (signal: AbortSignal | undefined): void => signal?.throwIfAborted();

/** Looked at before anything begins, which nobody could end later. @throws TypeError for what is no signal */
export function requireSignal(signal: AbortSignal | undefined): void {
  if (!signal || typeof signal.addEventListener === 'function') return;
  throw new TypeError('the signal is none; give an AbortSignal');
}

/** The promise's outcome, or a rejection with `signal.reason` as soon as the signal aborts. The work itself goes on. */
export const waitOrAbort = <T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> =>
  signal ? raceAbort(promise, signal) : promise;

async function raceAbort<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) promise.catch(() => {}); // nobody waits for the work; that it fails must not end the process
  signal.throwIfAborted();
  const aborted = deferred<never>();
  const onAbort = (): void => aborted.reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/**
 * Resolves after `ms`, or at once when `wake` is called or the signal aborts (without throwing: loops look at the
 * signal themselves). The timer does not keep the process alive.
 */
export function nap(
  ms: number,
  signal: AbortSignal,
): { readonly done: Promise<void>; readonly wake: () => void } {
  const { promise, resolve } = deferred();
  if (signal.aborted) resolve();
  const wake = (): void => {
    clearTimeout(timer);
    signal.removeEventListener('abort', wake);
    resolve();
  };
  const timer = setTimeout(wake, ms);
  timer.unref();
  signal.addEventListener('abort', wake, { once: true });
  return { done: promise, wake };
}

/** What the source gives until the signal aborts; then it ends normally. */
export async function* untilAborted<T>(
  source: AsyncGenerator<T, void, undefined>,
  signal: AbortSignal | undefined,
): AsyncGenerator<T, void, undefined> {
  for await (const item of source) {
    if (signal?.aborted) return;
    yield item;
  }
}
