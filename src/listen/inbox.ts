// What one subscription has not read yet, in order, within a bound: a message that does not fit pushes out the oldest,
// and the reader learns at its place that something is missing. Messages are hints; the newest is worth most. Pure.
//
// Whatever is pushed out was the oldest there was, so what is missing always lies before what is left: one marker for
// what was lost before the last session that was lost with it, one for that session, and one for what was lost after.

/** A notification. All subscriptions that hear it share it. */
export interface Message {
  readonly kind: 'message';
  readonly payload: string;
  /** The backend that sent it. */
  readonly processId: number;
}

export type Notice =
  | Message
  /** So many messages were pushed out here, because they were not read in time. */
  | { readonly kind: 'lagged'; readonly missed: number }
  /** A new session listens from here on: anything may have been sent in between. */
  | { readonly kind: 'gap'; readonly generation: number };

/** So many read places may stand at the front of the array, or as many as there are behind them, before it is cut. */
const SLACK = 1024;

export class Inbox {
  readonly #capacity: number;
  #notices: (Notice | undefined)[] = [];
  #first = 0;
  #messages = 0;
  #lostBefore = 0;
  #lostGap: number | undefined;
  #lostAfter = 0;

  /** @param capacity messages kept at most; a session between two of them takes no room */
  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** Messages that wait to be read. */
  get size(): number {
    return this.#messages;
  }

  /** False: the oldest message was pushed out. */
  message(message: Message): boolean {
    this.#notices.push(message);
    this.#messages += 1;
    if (this.#messages <= this.#capacity) return true;
    this.#pushOut();
    return false;
  }

  gap(generation: number): void {
    const last = this.#notices.length - 1;
    // Of two sessions with nothing between them, the later one says it all.
    if (last >= this.#first && this.#notices[last]?.kind === 'gap') this.#notices.pop();
    this.#notices.push({ kind: 'gap', generation });
  }

  /** The next notice, or undefined when all is read. */
  take(): Notice | undefined {
    return this.#takeLost() ?? this.#takeFirst();
  }

  #takeLost(): Notice | undefined {
    if (this.#lostBefore > 0) {
      const missed = this.#lostBefore;
      this.#lostBefore = 0;
      return { kind: 'lagged', missed };
    }
    if (this.#lostGap === undefined) return undefined;
    const generation = this.#lostGap;
    this.#lostGap = undefined;
    this.#lostBefore = this.#lostAfter;
    this.#lostAfter = 0;
    return { kind: 'gap', generation };
  }

  #takeFirst(): Notice | undefined {
    const notice = this.#notices[this.#first];
    if (!notice) return undefined;
    this.#notices[this.#first] = undefined;
    this.#first += 1;
    if (notice.kind === 'message') this.#messages -= 1;
    if (this.#first === this.#notices.length) {
      this.#notices = [];
      this.#first = 0;
    } else if (this.#first >= SLACK && this.#first * 2 >= this.#notices.length) {
      this.#notices = this.#notices.slice(this.#first);
      this.#first = 0;
    }
    return notice;
  }

  #pushOut(): void {
    for (let notice = this.#takeFirst(); notice; notice = this.#takeFirst()) {
      if (notice.kind === 'gap') {
        this.#lostBefore += this.#lostAfter;
        this.#lostAfter = 0;
        this.#lostGap = notice.generation;
        continue;
      }
      if (this.#lostGap === undefined) this.#lostBefore += 1;
      else this.#lostAfter += 1;
      return;
    }
  }
}
