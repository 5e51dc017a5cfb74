// Random tags for events that are appended. Drawn for many at once: after a pause, to ask the system for the few that one
// append needs takes as long as everything else that is done before it is sent.
import { getRandomValues } from 'node:crypto';

const DRAWN = 1024;

export class Tags {
  #drawn = new Int32Array(0);
  #next = 0;

  /** So many, which nobody else gets. */
  take(count: number): Int32Array {
    if (count > DRAWN) return getRandomValues(new Int32Array(count));
    if (this.#next + count > this.#drawn.length) {
      this.#drawn = getRandomValues(new Int32Array(DRAWN));
      this.#next = 0;
    }
    this.#next += count;
    return this.#drawn.subarray(this.#next - count, this.#next);
  }
}
