// The sessions of a listener as a sequence of their numbers. Counts on from the one it starts in; one number is all it
// has to keep.
import { waitOrAbort } from '../util/abort.ts';
import type { Listener } from './listener.ts';

export class Generations implements AsyncIterableIterator<number> {
  readonly #listener: Listener;
  readonly #ending: AbortSignal;
  readonly #leaving = new AbortController();
  #last: number;

  constructor(listener: Listener, last: number, ending: AbortSignal) {
    this.#listener = listener;
    this.#last = last;
    this.#ending = ending;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<number, undefined>> {
    while (!this.#ending.aborted && !this.#leaving.signal.aborted) {
      if (this.#listener.generation > this.#last) {
        this.#last += 1;
        return { done: false, value: this.#last };
      }
      const either = AbortSignal.any([this.#ending, this.#leaving.signal]);
      await waitOrAbort(this.#listener.nextGeneration, either).catch(() => {});
    }
    return { done: true, value: undefined };
  }

  return(): Promise<IteratorResult<number, undefined>> {
    this.#leaving.abort();
    return Promise.resolve({ done: true, value: undefined });
  }
}
