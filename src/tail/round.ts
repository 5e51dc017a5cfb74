// Something done for each of many, some in every turn of the event loop. Node takes one new connection in each turn: while
// thousands are written to in one go, thousands who come back would wait for seconds to be let in. While nobody comes, turns
// would only cost: a sixth of the rate to a thousand connections.
import { setImmediate } from 'node:timers/promises';

export interface RoundOptions {
  /** So many in a turn, at least. Default 64: about a millisecond of writes. */
  readonly turn?: number;
  /** And so many for each millisecond that other work took between two turns. Default 30: half of the time. */
  readonly perMs?: number;
  /** Resolves when it is its turn again. Default: in the next turn of the loop. */
  readonly pause?: () => Promise<unknown>;
}

/** So long after somebody came more are expected, in milliseconds. */
const COMING_MS = 1000;

export class Round {
  readonly #turn: number;
  readonly #perMs: number;
  readonly #pause: () => Promise<unknown>;
  #underWay: Promise<void> | undefined;
  #cameAt = -Infinity;

  constructor({ turn = 64, perMs = 30, pause = () => setImmediate() }: RoundOptions = {}) {
    this.#turn = turn;
    this.#perMs = perMs;
    this.#pause = pause;
  }

  /** Resolves when all have had theirs; undefined if they have. */
  underWay(): Promise<void> | undefined {
    return this.#underWay;
  }

  /** Somebody has come, and more may wait to be let in. */
  came(): void {
    this.#cameAt = performance.now();
  }

  /** Does it for the first of them at once, in order; for all, if nobody has come lately. Of a set, also for who joins meanwhile, and not for who leaves. */
  begin<T>(items: Iterable<T>, each: (item: T) => void): void {
    const rest = items[Symbol.iterator]();
    const areComing = performance.now() - this.#cameAt < COMING_MS;
    if (!takeTurn(rest, each, areComing ? this.#turn : Infinity)) this.#underWay = this.#goOn(rest, each);
  }

  async #goOn<T>(rest: Iterator<T>, each: (item: T) => void): Promise<void> {
    let isOver = false;
    try {
      while (!isOver) {
        const before = performance.now();
        await this.#pause();
        const count = Math.max(this.#turn, this.#perMs * (performance.now() - before));
        isOver = takeTurn(rest, each, count);
      }
    } finally {
      this.#underWay = undefined; // whatever happened, nobody waits for it for ever
    }
  }
}

/** Whether that was all. */
function takeTurn<T>(rest: Iterator<T>, each: (item: T) => void, count: number): boolean {
  for (let done = 0; done < count; done += 1) {
    const next = rest.next();
    if (next.done === true) return true;
    each(next.value);
  }
  return false;
}
