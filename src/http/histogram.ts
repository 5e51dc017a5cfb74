// How often a value fell where: counts between fixed bounds, and their sum. Observing allocates nothing, so that it may
// stand where every write to every connection passes. Pure.

export interface HistogramStats {
  readonly count: number;
  readonly sum: number;
  /** How many were at most `le`; the last one is Infinity. */
  readonly buckets: readonly { readonly le: number; readonly count: number }[];
}

/** How many values fell above the bound before and at or below this one; the last, above all bounds. */
export interface Tally {
  readonly bounds: readonly number[];
  readonly counts: Float64Array;
  readonly sum: number;
}

export class Histogram {
  readonly #bounds: readonly number[];
  readonly #counts: Float64Array;
  #sum = 0;
  /** What was taken before. */
  #taken: Float64Array | undefined;
  #takenSum = 0;

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

  /** What has fallen where since this was last asked. */
  take(): Tally {
    const taken = (this.#taken ??= new Float64Array(this.#counts.length));
    const counts = this.#counts.slice();
    for (let index = 0; index < counts.length; index += 1) {
      counts[index] = (counts[index] ?? 0) - (taken[index] ?? 0);
    }
    const sum = this.#sum - this.#takenSum;
    taken.set(this.#counts);
    this.#takenSum = this.#sum;
    return { bounds: this.#bounds, counts, sum };
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

/** By bound, without those where nothing fell. */
export function countsByBound({ bounds, counts }: Tally): Readonly<Record<string, number>> {
  const fallen = Array.from(counts, (count, index) => [String(bounds[index] ?? Infinity), count] as const);
  return Object.fromEntries(fallen.filter(([, count]) => count > 0));
}
