// How many events a consumer holds: as many as its handlers get through in a fraction of a second, at least what they
// take at a time. Slow handlers hold nothing ready, which another consumer could have. Pure.

/** A lease done sooner asks for more. */
const FAST_MS = 100;
/** One done later asks for less. */
const SLOW_MS = 500;

/** Events: queued, in the hands of handlers, and those for which handlers are free. */
export interface Load {
  readonly queued: number;
  readonly inHand: number;
  readonly free: number;
}

export class Window {
  readonly #least: number;
  readonly #most: number;
  #size: number;

  constructor({ least, most }: { readonly least: number; readonly most: number }) {
    this.#least = least;
    this.#most = Math.max(least, most);
    this.#size = least;
  }

  /** How many more may be taken. */
  room({ queued, inHand, free }: Load): number {
    if (this.#size === this.#least) return free - queued;
    return queued * 2 <= this.#size ? this.#size - queued - inHand : 0;
  }

  /**
   * The same for handlers of batches. A batch is of one lease: what comes one by one while they are busy would be a batch
   * each, so only what is known to be there is held ready. And no more at once than what is held ready at most: some begin
   * while the others' share is still to come.
   */
  batchRoom(load: Load, isMore: boolean): number {
    if (load.free === 0 && !isMore) return 0;
    return Math.min(this.room(load), this.#most - this.#least);
  }

  /** A lease of so many events took so long from the claim to the end. */
  learn(events: number, ms: number): void {
    if (ms < FAST_MS && events * 2 >= this.#size) this.#size = Math.min(this.#size * 2, this.#most);
    else if (ms > SLOW_MS) this.#size = Math.max(Math.floor(this.#size / 2), this.#least);
  }
}
