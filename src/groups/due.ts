// When something is due again in a group, as far as a member knows, and whether it is the one to go for it. The member that
// learns of it from the database goes first and tells the others, who wait for their turn, and hear once it was taken:
// otherwise all of them would ask for each event. Only a hint: somebody asks in any case. Pure; times are milliseconds of
// performance.now().
import { behindMs } from './turn.ts';

/**
 * With a throttle nobody waits longer for those before, in milliseconds: it saves up a tenth of a second, and what it could
 * have let through beyond that is lost to the group's rate.
 */
const MAX_THROTTLED_MS = 80;
/** Two answers that name one time differ by what they took to arrive. */
const SAME_MS = 20;

export class Due {
  #at = Infinity;
  #isFirst = true;

  /**
   * What the database says: Infinity, if nothing is. True: it is news, and this one goes for it; not if `isLate`: another
   * member took what was due, and goes for this as well.
   */
  learn(at: number, now: number, isLate = false): boolean {
    if (this.#at === at || (this.#at > now && Math.abs(this.#at - at) <= SAME_MS)) return false;
    this.#at = at;
    this.#isFirst = !isLate;
    return !isLate;
  }

  /** Another member took what was due, and is first for what comes next. */
  told(at: number, now: number): void {
    if (this.#at > now && this.#at < at) return; // the other has not seen it yet
    this.#at = at;
    this.#isFirst = false;
  }

  /** Whether the others wait for this one. */
  get isFirst(): boolean {
    return this.#isFirst;
  }

  /** When a member in that place is to ask; `isThrottled`: the group has a rate, which waiting must not cost it. */
  askAt(place: number, isThrottled: boolean): number {
    if (this.#isFirst) return this.#at;
    return this.#at + Math.min(behindMs(place + 1), isThrottled ? MAX_THROTTLED_MS : Infinity);
  }
}
