// One subscription: where it stands in each of its streams, and the few items that its consumer has not taken yet. It
// stands where the line stands that brings them, so nothing comes twice. Bounded: when full it says so, and its
// connection stops reading or leaves it behind; like a reader on the server it is a cursor, never a queue.
import { deferred, type Deferred } from '../util/deferred.ts';
import { SluiceError } from '../util/errors.ts';
import type { StreamItem } from './item.ts';

/** Items and characters of data that wait for a consumer, before its connection waits too. */
const MAX_ITEMS = 1000;
const MAX_CHARS = 4 * 2 ** 20;

/**
 * What `subscribe` returns: iterate it, once. Leaving the loop ends the subscription.
 */
export interface Subscription<T = unknown> extends AsyncIterable<StreamItem<T>> {
  /** Resolves when every stream has its starting point; what is appended from then on arrives. Rejects if it never will. */
  readonly ready: Promise<void>;
  /**
   * Resumes after the last of `batches`, before the first one where it began. Undefined until every stream has begun, and,
   * where one of them began with a loss, until that is taken. Who iterates item by item takes the cursor of the item.
   */
  readonly cursor: string | undefined;
  /** The same items as many at a time as there are, for consumers that would rather render once. Iterate one or the other. */
  batches(): AsyncIterable<readonly StreamItem<T>[]>;
  close(): void;
}

export class Subscriber implements Subscription {
  readonly streams: readonly string[];
  readonly after: string;
  /** JSON of the state to be present with; undefined is not to ask for presence. */
  readonly presence: string | undefined;
  /** Per stream, once known. */
  readonly at: Map<string, string> = new Map<string, string>();
  /** The same after the last of `batches`. */
  taken: ReadonlyMap<string, string> = new Map<string, string>();
  /** Reads on a connection of its own until it has caught up. */
  apart = false;
  over = false;
  readonly #onOver: () => void;
  readonly #ready: Deferred<void> = deferred();
  #items: StreamItem[] = [];
  #chars = 0;
  #waiting: Deferred<void> | undefined;
  #draining: Deferred<void> | undefined;
  #error: Error | undefined;

  constructor(asked: Pick<Subscriber, 'streams' | 'after' | 'presence'>, onOver: () => void) {
    this.streams = asked.streams;
    this.after = asked.after;
    this.presence = asked.presence;
    this.#onOver = onOver;
    this.#ready.promise.catch(() => {}); // whoever awaits it is told; nobody has to
  }

  get ready(): Promise<void> {
    return this.#ready.promise;
  }
  get full(): boolean {
    return this.#items.length >= MAX_ITEMS || this.#chars >= MAX_CHARS;
  }
  get cursor(): string | undefined {
    return this.#cursorOf(this.#items[0] && this.taken);
  }
  startOf(stream: string): string {
    return this.at.get(stream) ?? this.after;
  }

  /** Moves a stream to a position, with the event or the loss that did it, if any. */
  take(stream: string, position: string, item?: StreamItem, chars = 0): void {
    // What is lost where it begins must be told again to who resumes before it: there is no cursor yet.
    if (item && !this.#items[0] && this.at.get(stream) !== position) this.taken = new Map(this.at);
    this.at.set(stream, position);
    const cursor = this.#cursorOf();
    if (cursor) this.#ready.resolve();
    if (item) this.push({ ...item, cursor } as StreamItem, chars);
  }

  #cursorOf(at: ReadonlyMap<string, string> = this.at): string | undefined {
    return at.size < this.streams.length ? undefined : this.streams.map((stream) => at.get(stream)).join('.');
  }

  /** Adds an item that moves nothing. */
  push(item: StreamItem, chars = 0): void {
    if (this.over) return;
    this.#items.push(item);
    this.#chars += chars;
    this.#waiting?.resolve();
  }

  close(reason?: unknown): void {
    this.#items = []; // what waits is not wanted any more
    this.end(undefined, reason);
  }

  /** Ends after what is waiting, with an error if there is one. The reason is for those who wait for `ready`. */
  end(error?: Error, reason?: unknown): void {
    if (this.over) return;
    this.over = true;
    this.#error = error;
    this.#ready.reject(error ?? reason ?? new SluiceError('closed', 'subscription closed'));
    this.#waiting?.resolve();
    this.#draining?.resolve();
    this.#onOver();
  }

  /** Resolves when the consumer has taken what is waiting, or it is over. */
  async drained(): Promise<void> {
    if (!this.over && this.#items[0]) await (this.#draining ??= deferred()).promise;
  }

  async *batches(): AsyncGenerator<readonly StreamItem[], void, undefined> {
    try {
      for (;;) {
        const items = this.#items;
        if (items[0]) {
          this.#items = [];
          this.#chars = 0;
          this.taken = new Map(this.at);
          this.#draining?.resolve();
          this.#draining = undefined;
          yield items;
        } else if (this.over) {
          if (this.#error) throw this.#error;
          return;
        } else {
          await (this.#waiting = deferred()).promise;
        }
      }
    } finally {
      this.close();
    }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<StreamItem, void, undefined> {
    for await (const items of this.batches()) {
      for (const item of items) {
        if (this.over && !this.#error) return; // closed in the middle of a batch
        yield item;
      }
    }
  }
}
