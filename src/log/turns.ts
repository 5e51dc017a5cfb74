// Keeps the order of calls that have to wait for something of their own first: what was called earlier is sent earlier,
// whichever is ready first. Waiting is bounded: a call stuck for ever must not take those behind it along.
import { waitOrAbort } from '../util/abort.ts';
import { deferred, type Deferred } from '../util/deferred.ts';
import { SluiceError } from '../util/errors.ts';

export interface Turn {
  /** What the call waits for of its own; undefined: it is ready. */
  readonly ready: Promise<void> | undefined;
  /** How long it then waits for those before it, in milliseconds; then `overloaded`. */
  readonly waitMs: number;
  readonly signal: AbortSignal | undefined;
}

export class Turns {
  /** The calls neither sent nor given up, in their order. It is the turn of the first. */
  readonly #line = new Set<Deferred<void>>();

  /** Whether a call that is ready may be sent at once. */
  get free(): boolean {
    return this.#line.size === 0;
  }

  /** Calls `send` once the call is ready and every earlier one was sent or given up. */
  async take<T>({ ready, waitMs, signal }: Turn, send: () => Promise<T>): Promise<T> {
    const turn = deferred();
    this.#line.add(turn);
    this.#callFirst();
    let sent: Promise<T>;
    try {
      if (ready) await waitOrAbort(ready, signal);
      await atMost(turn.promise, waitMs, signal);
      signal?.throwIfAborted(); // aborted in the very tick in which it became ready
      sent = send();
    } finally {
      this.#line.delete(turn);
      this.#callFirst();
    }
    return sent;
  }

  #callFirst(): void {
    const [first] = this.#line;
    first?.resolve();
  }
}

async function atMost(promise: Promise<void>, ms: number, signal: AbortSignal | undefined): Promise<void> {
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
    `an earlier call, which this one may not overtake, still waits for its schema after ${ms} ms more; nothing was written: try again`,
  );
