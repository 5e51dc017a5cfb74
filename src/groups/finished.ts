// Leases all of whose events are done. The next claim settles them along the way, which saves a statement for each; what
// no claim has taken along within a moment is settled by a statement of its own.
import { deferred, type Deferred } from '../util/deferred.ts';

/** How long a lease waits for a claim: one that is busy claims sooner. */
const MOMENT_MS = 5;

/** What becomes of one of them; true: a claim has told it. */
interface Waiting {
  /** False: nobody waits for a claim any longer. */
  readonly inTime: Deferred<boolean>;
  readonly inTheEnd: Deferred<boolean>;
}

/** Those that a claim takes along. */
export interface TakenAlong {
  readonly tokens: readonly string[];
  /** `kept`: those that it could not tell. */
  answered(this: void, kept: readonly string[]): void;
  /** Nobody knows what it told. */
  failed(this: void, error: unknown): void;
}

export class Finished {
  readonly #patienceMs: number;
  #waiting = new Map<string, Waiting>();
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  /** A claim that takes so long, in milliseconds, is not waited for: leases end. */
  constructor(patienceMs: number) {
    this.#patienceMs = patienceMs;
  }

  /** Has a claim tell it, or `tell`. @throws what `tell` throws; that of the claim, if that may have told it */
  async tell(token: string, tell: () => Promise<unknown>): Promise<void> {
    if (this.#isClosed) {
      await tell();
      return;
    }
    const { inTime, inTheEnd } = this.#wait(token);
    if (await inTime.promise) return;
    try {
      await tell();
    } catch (error) {
      // A claim that was only late may have been first.
      if (!(await inTheEnd.promise)) throw error;
    }
  }

  /** For a claim that leaves now. */
  take(): TakenAlong {
    const taken = this.#waiting;
    this.#waiting = new Map();
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const tokens = [...taken.keys()];
    if (tokens.length === 0) return { tokens, answered: () => {}, failed: () => {} };
    const giveUp = (): void => {
      clearTimeout(late);
      for (const { inTime } of taken.values()) inTime.resolve(false);
    };
    const late = setTimeout(giveUp, this.#patienceMs);
    return {
      tokens,
      answered: (kept) => {
        clearTimeout(late);
        for (const [token, { inTime, inTheEnd }] of taken)
          for (const { resolve } of [inTime, inTheEnd]) resolve(!kept.includes(token));
      },
      failed: (error) => {
        giveUp();
        for (const { inTheEnd } of taken.values()) inTheEnd.reject(error);
      },
    };
  }

  /** There are no claims any more. */
  close(): void {
    this.#isClosed = true;
    this.#giveUp();
  }

  #wait(token: string): Waiting {
    const waiting: Waiting = { inTime: deferred(), inTheEnd: deferred() };
    waiting.inTheEnd.promise.catch(() => {}); // who told it by himself does not ask
    this.#waiting.set(token, waiting);
    this.#timer ??= setTimeout(() => this.#giveUp(), MOMENT_MS);
    return waiting;
  }

  #giveUp(): void {
    const { tokens, answered } = this.take();
    answered(tokens);
  }
}
