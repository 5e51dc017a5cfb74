// Keeps the order of calls that have to wait for something of their own first: what was called earlier is sent earlier,
// whichever is ready first. Waiting is bounded: a call stuck for ever must not take those behind it along.
import { waitOrAbort } from '../util/abort.ts';
import { deferred } from '../util/deferred.ts';
import { SluiceError } from '../util/errors.ts';

export interface Turn {
  /** What the call waits for of its own; undefined: it is ready. */
  readonly ready: Promise<void> | undefined;
  /** How long it then waits for those before it, in milliseconds; then `overloaded`. */
  readonly waitMs: number;
  readonly signal: AbortSignal | undefined;
}

export class Turns {
  /** Settles when every call so far was sent or given up; undefined: they were. */
  #last: Promise<unknown> | undefined;

  /** Whether a call that is ready may be sent at once. */
  get free(): boolean {
    return this.#last === undefined;
  }

  /** Calls `send` once the call is ready and every earlier one was sent or given up. */
  async take<T>({ ready, waitMs, signal }: Turn, send: () => Promise<T>): Promise<T> {
    const before = this.#last;
    const over = deferred();
    this.#follow(before ? Promise.all([before, over.promise]) : over.promise);
    let sent: Promise<T>;
    try {
      if (ready) await waitOrAbort(ready, signal);
      if (before) await atMost(before, waitMs, signal);
      signal?.throwIfAborted(); // aborted in the very turn in which it became ready
      sent = send();
    } finally {
      over.resolve();
    }
    return sent;
  }

  #follow(last: Promise<unknown>): void {
    this.#last = last;
    void last.then(() => this.#forget(last));
  }

  #forget(last: Promise<unknown>): void {
    if (this.#last === last) this.#last = undefined;
  }
}

async function atMost(promise: Promise<unknown>, ms: number, signal: AbortSignal | undefined): Promise<void> {
  const late = deferred<never>();
  const timer = setTimeout(() => late.reject(tooLate(ms)), ms);
  try {
    await waitOrAbort(Promise.race([promise, late.promise]), signal);
  } finally {
    clearTimeout(timer);
  }
}

const tooLate = (ms: number): SluiceError =>
  new SluiceError(
    'overloaded',
    `an earlier call's schema has not answered for ${ms} ms, and this call may not overtake it; nothing was written: try again`,
  );
