// A subscription as an async iterable: replay, then live. Holds one batch at most; while the consumer works on it the
// subscriber counts as full, and what comes meanwhile stays in the window or the database. Leaving the loop, the
// signal, and closing Sluice end it normally; history that is gone makes it throw, and so does an event that the
// reader's schema does not take.
import type { Decode } from '../log/decode.ts';
import type { StreamEvent } from '../log/event.ts';
import type { ParsedPosition } from '../protocol/position.ts';
import { onAbort, waitOrAbort } from '../util/abort.ts';
import { deferred, type Deferred } from '../util/deferred.ts';
import { asError } from '../util/errors.ts';
import type { Batch, Entry } from './entry.ts';
import { toError } from './loss.ts';
import type { Sink } from './subscriber.ts';
import type { Subscription } from './subscription.ts';
import type { Tails } from './tails.ts';

/** A stream's events from a position on, replayed and then live. Leaving the loop unsubscribes. */
export interface StreamSubscription<T> extends AsyncIterable<StreamEvent<T>> {
  /** Resolves when the start is fixed and live delivery is in force. Rejects if the subscription cannot open. */
  readonly ready: Promise<void>;
  close(): Promise<void>;
}

export interface IterateOptions<T> {
  readonly stream: string;
  readonly after: ParsedPosition;
  readonly signal: AbortSignal | undefined;
  readonly decode: Decode<T>;
}

export class EventIterator<T> implements StreamSubscription<T>, AsyncIterableIterator<StreamEvent<T>> {
  readonly ready: Promise<void>;
  readonly #signal: AbortSignal | undefined;
  readonly #letGo: (() => void) | undefined;
  readonly #decode: Decode<T>;
  #subscription: Subscription | undefined;
  #batch: Batch | undefined;
  #index = 0;
  #waiting: Deferred<void> | undefined;
  /** An event is being decoded: resolves when it is, or when nobody wants it any more. */
  #decoding: Deferred<void> | undefined;
  #error: Error | undefined;
  #done = false;

  constructor(tails: Tails, { stream, after, signal, decode }: IterateOptions<T>) {
    this.#signal = signal;
    this.#decode = decode;
    this.#letGo = signal && onAbort(signal, this.#onAbort);
    if (signal?.aborted) this.#end(undefined);
    this.ready = waitOrAbort(this.#open(tails, stream, after), signal);
    this.ready.catch(() => {}); // also thrown by the first next(): not everybody awaits `ready`
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<StreamEvent<T>> {
    return this;
  }

  async next(): Promise<IteratorResult<StreamEvent<T>, undefined>> {
    for (;;) {
      if (this.#decoding) {
        await this.#decoding.promise; // called again before the last call was answered: one event after the other
        continue;
      }
      const entry = this.#batch?.entries[this.#index];
      if (entry) {
        this.#index += 1;
        const event = this.#give(entry);
        if (!(event instanceof Promise)) return { done: false, value: event };
        const value = await event;
        if (value) return { done: false, value };
        continue;
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
    this.#decoding?.resolve();
    return Promise.resolve();
  }

  readonly #onAbort = (): void => void this.close();

  async #open(tails: Tails, stream: string, after: ParsedPosition): Promise<void> {
    if (this.#done) return this.#signal?.throwIfAborted(); // the iteration ends, and `ready` says why
    const sink: Sink = {
      write: (batch) => this.#take(batch),
      lost: (loss) => this.#end(toError(loss)),
      ended: (error) => void (error ? this.#end(error) : this.close()),
    };
    try {
      const subscription = await tails.subscribe(stream, after, sink);
      if (this.#done) {
        subscription.close();
        return this.#signal?.throwIfAborted();
      }
      this.#subscription = subscription;
      if (subscription.opened.kind === 'lost') throw toError(subscription.opened.loss);
      if (this.#waiting) subscription.resume(); // next() was called before there was anything to ask
    } catch (error) {
      this.#end(asError(error));
      throw error;
    }
  }

  #give({ identity, record }: Entry): StreamEvent<T> | Promise<StreamEvent<T> | undefined> {
    try {
      const decoded = this.#decode(identity, record);
      return decoded instanceof Promise ? this.#giveLater(decoded) : decoded;
    } catch (error) {
      throw this.#stop(error);
    }
  }

  /** Undefined: closed meanwhile. */
  async #giveLater(decoded: Promise<StreamEvent<T>>): Promise<StreamEvent<T> | undefined> {
    const decoding = deferred();
    this.#decoding = decoding;
    try {
      await Promise.race([decoded, decoding.promise]);
      return this.#batch && (await decoded);
    } catch (error) {
      if (this.#batch) throw this.#stop(error);
      return undefined;
    } finally {
      this.#decoding = undefined;
      decoding.resolve();
    }
  }

  /** An event that cannot be given ends the iteration: what follows must not look as if it came next. */
  #stop(error: unknown): unknown {
    this.#batch = undefined;
    this.#end(undefined);
    this.#error = undefined;
    return error;
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
    this.#letGo?.();
    this.#subscription?.close();
    this.#wake();
  }

  #wake(): void {
    this.#waiting?.resolve();
    this.#waiting = undefined;
  }
}
