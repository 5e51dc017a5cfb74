// When something is due again in a group, as far as a member knows, and whether it is the one to go for it. Who learns of it
// from the database is first and tells the others, who wait for their turn and are told again once it was taken: otherwise
// each would ask for each. Only a hint: somebody asks in any case. Pure; times are of performance.now(), in milliseconds.
import { behindMs } from './turn.ts';

/** Two answers that name one time differ by what they took to arrive. */
const SAME_MS = 20;

export class Due {
  #at = Infinity;
  #isFirst = true;

  /** What the database says: Infinity, if nothing is. True: it is news. */
  learn(at: number, now: number): boolean {
    if (this.#at === at || (this.#at > now && Math.abs(this.#at - at) <= SAME_MS)) return false;
    this.#at = at;
    this.#isFirst = true;
    return true;
  }

  /** Another member took what was due, and is first for what comes next. */
  told(at: number, now: number): void {
    if (this.#at > now && this.#at < at) return; // the other has not seen it yet
    this.#at = at;
    this.#isFirst = false;
  }

  /** When a member in that place is to ask. */
  askAt(place: number): number {
    return this.#isFirst ? this.#at : this.#at + behindMs(place + 1);
  }
}
