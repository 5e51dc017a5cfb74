// How many events a consumer holds: as many as its handlers get through in a fraction of a second, at least what they
// take at a time. Slow handlers hold nothing ready, which another consumer could have. Pure.

/** A lease done sooner asks for more. */
const FAST_MS = 100;
/** One done later asks for less. */
const SLOW_MS = 500;

export class Window {
  readonly #least: number;
  readonly #most: number;
  #size: number;

  constructor({ least, most }: { readonly least: number; readonly most: number }) {
    this.#least = least;
    this.#most = Math.max(least, most);
    this.#size = least;
  }

  /** How many more may be taken, with so many queued, so many in the hands of handlers, and room in those for `free`. */
  room({
    queued,
    inHand,
    free,
  }: {
    readonly queued: number;
    readonly inHand: number;
    readonly free: number;
  }): number {
    if (this.#size === this.#least) return free - queued;
    return queued * 2 <= this.#size ? this.#size - queued - inHand : 0;
  }

  /** A lease of so many events took so long from the claim to the end. */
  learn(events: number, ms: number): void {
    if (ms < FAST_MS && events * 2 >= this.#size) this.#size = Math.min(this.#size * 2, this.#most);
    else if (ms > SLOW_MS) this.#size = Math.max(Math.floor(this.#size / 2), this.#least);
  }
}
