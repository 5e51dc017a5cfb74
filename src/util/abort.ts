// Waiting that can be ended: timers and events raced against an AbortSignal, leaving no listener behind.
import { deferred } from './deferred.ts';

/** Throws `signal.reason` if the signal is aborted. */
export const throwIfAborted = (signal: AbortSignal | undefined): void => signal?.throwIfAborted();

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

/** What the source gives until the signal aborts; then it ends normally, at once: what the source waits for goes on. */
export async function* untilAborted<T>(
  source: AsyncGenerator<T, void, undefined>,
  signal: AbortSignal | undefined,
): AsyncGenerator<T, void, undefined> {
  const ended = deferred<IteratorResult<T, void>>();
  const end = (): void => ended.resolve({ done: true, value: undefined });
  signal?.addEventListener('abort', end, { once: true });
  try {
    for (;;) {
      if (signal?.aborted) return;
      const { done, value } = await Promise.race([source.next(), ended.promise]);
      if (done === true) return;
      yield value;
    }
  } finally {
    signal?.removeEventListener('abort', end);
    source.return().catch(() => {}); // answered once it has what it waits for, which nobody wants any more
  }
}
