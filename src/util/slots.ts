// So much work at a time and no more; the rest waits its turn, first come first served, after what is urgent.
import { deferred, type Deferred } from './deferred.ts';

export class Slots {
  readonly #count: number;
  readonly #urgent: Deferred<void>[] = [];
  readonly #waiting: Deferred<void>[] = [];
  #taken = 0;

  constructor(count: number) {
    this.#count = count;
  }

  /** Runs the work in a slot. Urgent work waits for a slot, and for no other work. */
  async run<T>(work: () => Promise<T>, { urgent = false }: { readonly urgent?: boolean } = {}): Promise<T> {
    await this.#enter(urgent ? this.#urgent : this.#waiting);
    try {
      return await work();
    } finally {
      this.#leave();
    }
  }

  async #enter(queue: Deferred<void>[]): Promise<void> {
    if (this.#taken >= this.#count) {
      const turn = deferred();
      queue.push(turn);
      await turn.promise; // the one who leaves passes its slot on
      return;
    }
    this.#taken += 1;
  }

  #leave(): void {
    const next = this.#urgent.shift() ?? this.#waiting.shift();
    if (next) next.resolve();
    else this.#taken -= 1;
  }
}
