// Which of the failures that come over and over are worth a line in a log: one of each kind in a minute, and a bounded
// number of kinds. Takes the time as a parameter. Pure.

const EVERY_MS = 60_000;
/** Kinds told of within a minute, at most: users choose them. */
const MAX_KINDS = 100;

export class Seldom<Kind> {
  /** When each was told last, the one told longest ago first, and how many came since. */
  readonly #told = new Map<Kind, { readonly at: number; untold: number }>();

  /**
   * How many of this kind there were since one was told, this one included; 0: this one is not to be told.
   *
   * @param now milliseconds, of any clock that does not go back
   */
  count(kind: Kind, now: number): number {
    const last = this.#told.get(kind);
    if (last && now - last.at < EVERY_MS) {
      last.untold += 1;
      return 0;
    }
    if (!last && !this.#makeRoom(now)) return 0;
    this.#told.delete(kind);
    this.#told.set(kind, { at: now, untold: 0 });
    return 1 + (last?.untold ?? 0);
  }

  #makeRoom(now: number): boolean {
    if (this.#told.size < MAX_KINDS) return true;
    for (const [kind, { at }] of this.#told) {
      if (now - at < EVERY_MS) return false;
      return this.#told.delete(kind);
    }
    return true;
  }
}
