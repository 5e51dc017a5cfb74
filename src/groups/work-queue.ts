// What a consumer has been handed and not begun yet, in order. In a keyed group the events of one key go one after
// another: those behind the first of a key wait in its chain. Pure.

export interface Work {
  readonly key: string | null;
  readonly lease: object;
}

export class WorkQueue<W extends Work> {
  readonly #keyed: boolean;
  #ready: W[] = [];
  #next = 0;
  /** For each key of which one is ready or begun: those behind it. */
  readonly #chains = new Map<string, W[]>();
  #chained = 0;

  constructor(keyed: boolean) {
    this.#keyed = keyed;
  }

  get size(): number {
    return this.#ready.length - this.#next + this.#chained;
  }

  /** What would be taken next. */
  get first(): W | undefined {
    return this.#ready[this.#next];
  }

  add(work: W): void {
    const chain = this.#keyed && work.key !== null ? this.#chains.get(work.key) : undefined;
    if (chain) {
      chain.push(work);
      this.#chained += 1;
      return;
    }
    if (this.#keyed && work.key !== null) this.#chains.set(work.key, []);
    this.#ready.push(work);
  }

  /** Begins up to `max` pieces of work of one lease, at most one of each key. */
  take(max: number): W[] {
    const from = this.#next;
    const lease = this.first?.lease;
    while (this.#next < this.#ready.length && this.#next - from < max && this.first?.lease === lease) {
      this.#next += 1;
    }
    const taken = this.#ready.slice(from, this.#next);
    if (this.#next > 1000 || this.#next === this.#ready.length) {
      this.#ready = this.#ready.slice(this.#next);
      this.#next = 0;
    }
    return taken;
  }

  /** Work that was begun is over. Returns what must not be begun after a failure: what stood behind it. */
  finish({ key }: W, isDone: boolean): W[] {
    const chain = this.#keyed && key !== null ? this.#chains.get(key) : undefined;
    if (!chain || key === null) return [];
    if (!isDone) {
      this.#chains.delete(key);
      this.#chained -= chain.length;
      return chain;
    }
    const next = chain.shift();
    if (next) {
      this.#chained -= 1;
      this.#ready.push(next);
    } else this.#chains.delete(key);
    return [];
  }

  /** Takes what stands behind others of its key out of the queue. */
  removeBehind(): W[] {
    const behind = [...this.#chains.values()].flat();
    for (const key of this.#chains.keys()) this.#chains.set(key, []);
    this.#chained = 0;
    return behind;
  }

  /** Takes all of it that was not begun, or all of one lease with what stands behind that, out of the queue. */
  remove(lease?: object): W[] {
    const isMeant = (work: W): boolean => lease === undefined || work.lease === lease;
    const waiting = this.#ready.slice(this.#next);
    const removed = waiting.filter(isMeant);
    const readyKeys = new Set(removed.map(({ key }) => key));
    this.#ready = waiting.filter((work) => !isMeant(work));
    this.#next = 0;
    for (const [key, chain] of this.#chains) {
      const from = readyKeys.has(key) ? 0 : chain.findIndex(isMeant);
      const cut = from < 0 ? [] : chain.splice(from);
      this.#chained -= cut.length;
      removed.push(...cut);
      if (readyKeys.has(key)) this.#chains.delete(key);
    }
    return removed;
  }
}
