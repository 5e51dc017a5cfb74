// Owns waiting in tests: for a message on a node:diagnostics_channel, or for a condition to come true.
// Tests never sleep and never assert timing. The deadlines here only turn a hang into a failure that says what it
// waited for, and this is the one place where a timer may stand.
import { subscribe, unsubscribe } from 'node:diagnostics_channel';

const defaultDeadlineMs = 60_000;
const recheckMs = 10;

export interface WaitOptions {
  readonly signal?: AbortSignal | undefined;
  readonly deadlineMs?: number | undefined;
}

/**
 * The next message on a diagnostics channel that satisfies `predicate`. Listens from the call on, so take the promise
 * first, cause the message, then await it. Rejects after `deadlineMs` (60 000), or with the reason of `signal`.
 *
 * @example
 * const connected = nextMessage<{ generation: number }>('sluice:listen.connected', (m) => m.generation === 2);
 * proxy.cut();
 * await connected;
 */
export const nextMessage = <T = unknown>(
  channelName: string,
  predicate: (message: T) => boolean = () => true,
  { signal, deadlineMs = defaultDeadlineMs }: WaitOptions = {},
): Promise<T> => {
  let seen = 0;
  return new Promise<T>((resolve, reject) => {
    const finish = (settle: () => void): void => {
      unsubscribe(channelName, onMessage);
      clearTimeout(deadline);
      signal?.removeEventListener('abort', onAbort);
      settle();
    };
    const onMessage = (message: unknown): void => {
      seen += 1;
      try {
        if (predicate(message as T)) finish(() => resolve(message as T));
      } catch (error) {
        // Thrown into the publisher, this would surface as an uncaught error far from the test that waits.
        finish(() => reject(error));
      }
    };
    const onAbort = (): void => finish(() => reject(signal?.reason));
    const deadline = setTimeout(() => {
      const others = seen === 0 ? 'none came' : `${seen} came, none that matches ${predicate.toString()}`;
      finish(() => reject(new Error(`no message on ${channelName} within ${deadlineMs} ms: ${others}`)));
    }, deadlineMs);
    if (signal?.aborted === true) return onAbort();
    signal?.addEventListener('abort', onAbort, { once: true });
    subscribe(channelName, onMessage);
  });
};

/**
 * Resolves once `condition` holds, checking it again a few milliseconds after each check. For state that announces
 * itself nowhere (a row, a backend, a socket count); where a diagnostics message exists, await that instead.
 * An error thrown by the condition ends the wait.
 */
export const until = async (
  condition: () => boolean | Promise<boolean>,
  { signal, deadlineMs = defaultDeadlineMs }: WaitOptions = {},
): Promise<void> => {
  const givesUpAt = performance.now() + deadlineMs;
  for (;;) {
    signal?.throwIfAborted();
    if (await condition()) return;
    if (performance.now() > givesUpAt)
      throw new Error(`not within ${deadlineMs} ms: ${condition.toString()}`);
    await new Promise((resolve) => setTimeout(resolve, recheckMs));
  }
};
