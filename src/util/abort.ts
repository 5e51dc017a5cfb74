// Waiting that can be ended: timers and events raced against an AbortSignal, which has one listener while anybody waits.
import { deferred } from './deferred.ts';

/** Looked at before anything begins, which nobody could end later. @throws TypeError for what is no signal */
export function requireSignal(signal: AbortSignal | undefined): void {
  if (!signal || typeof signal.addEventListener === 'function') return;
  throw new TypeError('the signal is none; give an AbortSignal');
}

/** Called before anything begins. @throws `signal.reason` if the signal is aborted; TypeError for what is no signal */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  requireSignal(signal);
  signal?.throwIfAborted();
}

const waiting = new WeakMap<AbortSignal, Set<() => void>>();

/**
 * Calls back once when the signal aborts, until it is let go of: call what is returned. However many wait for a signal, it
 * has one listener of ours: Node warns of a leak from the eleventh on.
 */
export function onAbort(signal: AbortSignal, told: () => void): () => void {
  const callbacks = waiting.get(signal) ?? listenFor(signal);
  callbacks.add(told);
  return () => {
    if (!callbacks.delete(told) || callbacks.size > 0 || waiting.get(signal) !== callbacks) return;
    waiting.delete(signal);
    signal.removeEventListener('abort', tell);
  };
}

function listenFor(signal: AbortSignal): Set<() => void> {
  signal.addEventListener('abort', tell, { once: true });
  const callbacks = new Set<() => void>();
  waiting.set(signal, callbacks);
  return callbacks;
}

function tell({ target }: Event): void {
  const signal = target as AbortSignal;
  const callbacks = waiting.get(signal) ?? [];
  waiting.delete(signal);
  for (const told of callbacks) told();
}

/** The promise's outcome, or a rejection with `signal.reason` as soon as the signal aborts. The work itself goes on. */
export const waitOrAbort = <T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> =>
  signal ? raceAbort(promise, signal) : promise;

async function raceAbort<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) promise.catch(() => {}); // nobody waits for the work; that it fails must not end the process
  signal.throwIfAborted();
  const aborted = deferred<never>();
  const letGo = onAbort(signal, () => aborted.reject(signal.reason));
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    letGo();
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
    letGo();
    resolve();
  };
  const timer = setTimeout(wake, ms);
  timer.unref();
  const letGo = onAbort(signal, wake);
  return { done: promise, wake };
}

/** What the source gives until the signal aborts; then it ends normally, at once: what the source waits for goes on. */
export async function* untilAborted<T>(
  source: AsyncGenerator<T, void, undefined>,
  signal: AbortSignal | undefined,
): AsyncGenerator<T, void, undefined> {
  const ended = deferred<IteratorResult<T, void>>();
  const end = (): void => ended.resolve({ done: true, value: undefined });
  const letGo = signal && onAbort(signal, end);
  try {
    for (;;) {
      if (signal?.aborted) return;
      const { done, value } = await Promise.race([source.next(), ended.promise]);
      if (done === true) return;
      yield value;
    }
  } finally {
    letGo?.();
    source.return().catch(() => {}); // answered once it has what it waits for, which nobody wants any more
  }
}
