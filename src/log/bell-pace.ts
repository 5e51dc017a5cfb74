// When a process may tell readers that streams have gone on: by the commit itself, or by a statement after it. Pure; all
// times are milliseconds of one clock.
//
// A transaction that notifies holds a lock of the whole cluster while it is flushed. So commits do it where they are quick
// and few events pass. While they are slow, maybe since they wait for others who notify, each is followed by a rest of many
// times its length. Statements of their own are not flushed, and need no more than a short rest.

/** Rest after a notification when many events pass: at least, and at most. */
const MIN_REST_MS = 2;
const MAX_REST_MS = 10;
/** While no more events pass in a millisecond, commits that notify need no rest between them: they cost no statement. */
const FEW_PER_MS = 4;
/** While commits that notify take up to this on average, the next one may, too. */
const QUICK_MS = 5;
/** What the last one weighs in that average. */
const WEIGHT = 0.2;
/** While they are slower, the next may when so many times as long has passed. */
const SLOW_REST = 10;

export class BellPace {
  #events = 0; // since readers were last told
  #toldAt = -Infinity;
  #mayTellAt = -Infinity;
  #mayRingAt = -Infinity;
  #averageMs = 0; // of commits that notify

  /** So many events were committed, and readers are to be told. */
  passed(events: number): void {
    this.#events += events;
  }

  /** Whether a commit that begins now may tell readers. */
  mayRing(at: number): boolean {
    return at >= this.#mayTellAt && at >= this.#mayRingAt;
  }

  /** How long a statement of its own has to wait. */
  restMs(at: number): number {
    return Math.max(0, this.#mayTellAt - at);
  }

  /** A statement has told readers. */
  told(at: number): void {
    this.#mayTellAt = at + restFor(this.#perMs(at));
    this.#toldAt = at;
    this.#events = 0;
  }

  /** A commit that took so long has told readers. */
  rang(at: number, tookMs: number): void {
    const perMs = this.#perMs(at);
    this.#mayTellAt = at + (perMs <= FEW_PER_MS ? 0 : restFor(perMs));
    this.#toldAt = at;
    this.#events = 0;
    this.#leaveAfter(at, tookMs);
  }

  /** A commit that might have told readers has failed, after so long. */
  failed(at: number, tookMs: number): void {
    this.#leaveAfter(at, tookMs);
  }

  #leaveAfter(at: number, tookMs: number): void {
    this.#averageMs += WEIGHT * (tookMs - this.#averageMs);
    this.#mayRingAt = this.#averageMs <= QUICK_MS ? at : at + SLOW_REST * this.#averageMs;
  }

  #perMs(at: number): number {
    const ms = at - this.#toldAt;
    return ms > 0 ? this.#events / ms : Infinity;
  }
}

/** Milliseconds to rest when so many events come in each: above 2 000 a second more of them share a notification. */
const restFor = (perMs: number): number => Math.min(MAX_REST_MS, Math.max(MIN_REST_MS, perMs));
