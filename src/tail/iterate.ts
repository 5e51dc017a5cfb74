// A subscription as an async iterable: replay, then live. Holds one batch at most; while the consumer works on it the
// subscriber counts as full, and what comes meanwhile stays in the window or the database. Leaving the loop, the
// signal, and closing Sluice end it normally; history that is gone makes it throw.
import { toStreamEvent, type StreamEvent } from '../log/event.ts';
import type { ParsedPosition } from '../protocol/position.ts';
import { deferred, type Deferred } from '../util/deferred.ts';
import type { Batch } from './entry.ts';
import { toError } from './loss.ts';
import type { Sink } from './subscriber.ts';
import type { Subscription, Tails } from './tails.ts';

/** A stream's events from a position on, replayed and then live. Leaving the loop unsubscribes. */
export interface StreamSubscription<T> extends AsyncIterable<StreamEvent<T>> {
  /** Resolves when the start is fixed and live delivery is in force. Rejects if the subscription cannot open. */
  readonly ready: Promise<void>;
  close(): Promise<void>;
}

export interface IterateOptions {
  readonly stream: string;
  readonly after: ParsedPosition;
  readonly signal: AbortSignal | undefined;
}

export class EventIterator<T> implements StreamSubscription<T>, AsyncIterableIterator<StreamEvent<T>> {
  readonly ready: Promise<void>;
  readonly #signal: AbortSignal | undefined;
  #subscription: Subscription | undefined;
  #batch: Batch | undefined;
  #index = 0;
  #waiting: Deferred<void> | undefined;
  #error: Error | undefined;
  #done = false;

  constructor(tails: Tails, { stream, after, signal }: IterateOptions) {
    this.#signal = signal;
    signal?.addEventListener('abort', this.#onAbort, { once: true });
    if (signal?.aborted) this.#end(undefined);
    this.ready = this.#open(tails, stream, after);
    this.ready.catch(() => {}); // also thrown by the first next(): not everybody awaits `ready`
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<StreamEvent<T>> {
    return this;
  }

  async next(): Promise<IteratorResult<StreamEvent<T>, undefined>> {
    for (;;) {
      const entry = this.#batch?.entries[this.#index];
      if (entry) {
        this.#index += 1;
        return { done: false, value: toStreamEvent<T>(entry.identity, entry.record) };
      }
      if (this.#error !== undefined) {
        const error = this.#error;
        this.#error = undefined;
        throw error;
      }
      if (this.#done) return { done: true, value: undefined };
      this.#batch = undefined;
      this.#waiting ??= deferred();
      const { promise } = this.#waiting;
      this.#subscription?.resume();
      await promise;
    }
  }

  async return(): Promise<IteratorResult<StreamEvent<T>, undefined>> {
    await this.close();
    return { done: true, value: undefined };
  }

  close(): Promise<void> {
    this.#batch = undefined;
    this.#end(undefined);
    return Promise.resolve();
  }

  readonly #onAbort = (): void => void this.close();

  async #open(tails: Tails, stream: string, after: ParsedPosition): Promise<void> {
    if (this.#done) return;
    const sink: Sink = {
      write: (batch) => this.#take(batch),
      lost: (loss) => this.#end(toError(loss)),
      ended: (error) => this.#end(error),
    };
    try {
      const subscription = await tails.subscribe(stream, after, sink);
      if (this.#done) return subscription.close();
      this.#subscription = subscription;
      if (subscription.opened.kind === 'lost') throw toError(subscription.opened.loss);
      if (this.#waiting) subscription.resume(); // next() was called before there was anything to ask
    } catch (error) {
      this.#end(error instanceof Error ? error : new Error(String(error)));
      throw error;
    }
  }

  #take(batch: Batch): boolean {
    this.#batch = batch;
    this.#index = 0;
    this.#wake();
    return false; // full until next() asks again
  }

  #end(error: Error | undefined): void {
    if (this.#done) return;
    this.#done = true;
    this.#error = error;
    this.#signal?.removeEventListener('abort', this.#onAbort);
    this.#subscription?.close();
    this.#wake();
  }

  #wake(): void {
    this.#waiting?.resolve();
    this.#waiting = undefined;
  }
}
