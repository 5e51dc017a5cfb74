// Does something for each of many items, some of them in each turn of the event loop. Node accepts one new connection per
// turn: were thousands written to in one go, thousands who reconnect would wait seconds to be let in. While few connect,
// turns would only cost: a sixth of the rate to a thousand connections.
import { setImmediate } from 'node:timers/promises';

export interface RoundOptions {
  /** Items in a turn, at least. Default 64: about a millisecond of writes. */
  readonly turn?: number;
  /** Items for each millisecond that other work took between two turns. Default 30: half of the time. */
  readonly perMs?: number;
  /** There are turns once so many have come within a second. Default 8. */
  readonly many?: number;
  /** Resolves when it is its turn again. Default: in the next turn of the loop. */
  readonly pause?: () => Promise<unknown>;
}

/** After so many within a second more are expected. Fewer wait for one batch each: a tenth of a second with ten thousand. */
const MANY = 8;
const WITHIN_MS = 1000;

export class Round {
  readonly #turn: number;
  readonly #perMs: number;
  readonly #many: number;
  readonly #pause: () => Promise<unknown>;
  #underWay: Promise<void> | undefined;
  readonly #cameAt: number[] = []; // the last `many`, the oldest first

  constructor({ turn = 64, perMs = 30, many = MANY, pause = () => setImmediate() }: RoundOptions = {}) {
    this.#turn = turn;
    this.#perMs = perMs;
    this.#many = many;
    this.#pause = pause;
  }

  /** Resolves when all have had theirs; undefined if they have. */
  underWay(): Promise<void> | undefined {
    return this.#underWay;
  }

  /** Somebody has come, and more may wait to be let in. */
  came(): void {
    this.#cameAt.push(performance.now());
    if (this.#cameAt.length > this.#many) this.#cameAt.shift();
  }

  /**
   * Calls `each` for the items in order: for all of them at once if few have come lately, else for the first ones now and
   * for the rest turn by turn. An item that joins the set meanwhile is reached, one that leaves it is not.
   */
  begin<T>(items: Iterable<T>, each: (item: T) => void): void {
    const rest = items[Symbol.iterator]();
    if (!takeTurn(rest, each, this.#areComing() ? this.#turn : Infinity)) {
      this.#underWay = this.#goOn(rest, each);
    }
  }

  #areComing(): boolean {
    const [first] = this.#cameAt;
    const areMany = this.#cameAt.length === this.#many;
    return areMany && first !== undefined && performance.now() - first < WITHIN_MS;
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
