// How often a value fell where: counts between fixed bounds, and their sum. Observing allocates nothing, so that it may
// stand where every write to every connection passes. Pure.

export interface HistogramStats {
  readonly count: number;
  readonly sum: number;
  /** How many were at most `le`; the last one is Infinity. */
  readonly buckets: readonly { readonly le: number; readonly count: number }[];
}

export class Histogram {
  readonly #bounds: readonly number[];
  readonly #counts: Float64Array;
  #sum = 0;

  /** @param bounds in rising order */
  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#counts = new Float64Array(bounds.length + 1);
  }

  /** Takes a number of 0 or more; anything else counts as 0. */
  observe(given: number): void {
    const value = given > 0 ? given : 0;
    let index = 0;
    while (index < this.#bounds.length && value > (this.#bounds[index] ?? 0)) index += 1;
    this.#counts[index] = (this.#counts[index] ?? 0) + 1;
    this.#sum += value;
  }

  /** A frozen copy. */
  stats(): HistogramStats {
    let count = 0;
    const buckets = Array.from(this.#counts, (some, index) => {
      count += some;
      return Object.freeze({ le: this.#bounds[index] ?? Infinity, count });
    });
    return Object.freeze({ count, sum: this.#sum, buckets: Object.freeze(buckets) });
  }
}
