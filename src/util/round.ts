// Something done for each of many, some in every turn of the event loop. Node takes one new connection in each turn: while
// thousands are written to in one go, thousands who come back would wait for seconds to be let in. Where few come, turns would
// only cost: a sixth of the rate to a thousand connections.
import { setImmediate } from 'node:timers/promises';

export interface RoundOptions {
  /** So many in a turn, at least. Default 64: about a millisecond of writes. */
  readonly turn?: number;
  /** And so many for each millisecond that other work took between two turns. Default 30: half of the time. */
  readonly perMs?: number;
  /** After so many came within a second there are turns. Default 8. */
  readonly many?: number;
  /** Resolves when it is its turn again. Default: in the next turn of the loop. */
  readonly pause?: () => Promise<unknown>;
}

/** If so many came within a second, more are expected. Fewer wait for a batch each, which is a tenth of a second with ten thousand. */
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

  /** Does it for the first of them at once, in order; for all, if few have come lately. Of a set, also for who joins meanwhile, and not for who leaves. */
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
