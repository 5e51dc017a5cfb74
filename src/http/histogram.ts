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

  /** @param scale what a unit of the bounds and the sum is told as: 0.001 tells milliseconds in seconds */
  stats(scale = 1): HistogramStats {
    let count = 0;
    const buckets = Array.from(this.#counts, (some, index) => {
      count += some;
      return Object.freeze({ le: scaled(this.#bounds[index] ?? Infinity, scale), count });
    });
    return Object.freeze({ count, sum: this.#sum * scale, buckets: Object.freeze(buckets) });
  }
}

// 5 ms is 0.005 s, not 0.0050000000000000001.
const scaled = (bound: number, scale: number): number => Number((bound * scale).toPrecision(12));
