// Leases of which every event is done: the next claim tells so along with what it asks, which saves a statement for each.
// What no claim has told within a moment is told by itself.
import { deferred, type Deferred } from '../util/deferred.ts';

/** A consumer that is busy claims sooner than that. */
const MOMENT_MS = 5;

export class Finished {
  readonly #patienceMs: number;
  /** By token; true: a claim has told it. */
  #waiting = new Map<string, Deferred<boolean>>();
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  /** A claim that takes so long, in milliseconds, is not waited for: leases end. */
  constructor(patienceMs: number) {
    this.#patienceMs = patienceMs;
  }

  /** Whether a claim has told it; false: it is still to be told. */
  async isTold(token: string): Promise<boolean> {
    if (this.#isClosed) return false;
    const told = deferred<boolean>();
    this.#waiting.set(token, told);
    this.#timer ??= setTimeout(() => this.#giveUp(), MOMENT_MS);
    return told.promise;
  }

  /** For a claim that leaves now. `answered` is called with those that it could not tell. */
  take(): { readonly tokens: readonly string[]; answered(this: void, kept: readonly string[]): void } {
    const taken = this.#waiting;
    this.#waiting = new Map();
    this.#stopWaiting();
    const tokens = [...taken.keys()];
    if (tokens.length === 0) return { tokens, answered: () => {} };
    const answered = (kept: readonly string[]): void => {
      clearTimeout(late);
      for (const [token, told] of taken) told.resolve(!kept.includes(token));
    };
    const late = setTimeout(() => answered(tokens), this.#patienceMs);
    return { tokens, answered };
  }

  /** There are no claims any more. */
  close(): void {
    this.#isClosed = true;
    this.#giveUp();
  }

  #giveUp(): void {
    const { tokens, answered } = this.take();
    answered(tokens);
  }

  #stopWaiting(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
