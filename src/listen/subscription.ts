// One subscription of a bus as an async iterable: its inbox, read one notice after another. A slow reader costs its own
// inbox and nobody else. Leaving the loop, the signal, and closing the bus end it normally; a channel that the server
// refuses makes it throw.
import { deferred, type Deferred } from '../util/deferred.ts';
import { report } from '../util/diagnostics.ts';
import { messageOf } from '../util/errors.ts';
import type { LoggerLike } from '../util/logger.ts';
import { judge, refusalText, type StandardSchemaV1 } from '../util/standard-schema.ts';
import type { ChannelHandler } from './hub.ts';
import { Inbox, type Notice } from './inbox.ts';

/** What a subscription gives; `data` is there with a schema. */
export type Notification<T = undefined> =
  | {
      readonly kind: 'message';
      /** As it was sent; empty if there was none. */
      readonly payload: string;
      /** What the schema made of the payload's JSON. */
      readonly data: T;
      /** The server process that sent it. */
      readonly processId: number;
    }
  /** The reader was too slow: so many messages are missing here. */
  | { readonly kind: 'lagged'; readonly missed: number }
  /** A new session listens from here on: anything may have been sent in between. Read again what you keep up with. */
  | { readonly kind: 'gap'; readonly generation: number };

/** Notifications of one channel. Leaving the loop unsubscribes. */
export interface NotifySubscription<T = undefined> extends AsyncIterable<Notification<T>>, AsyncDisposable {
  readonly channel: string;
  /** Ends the iteration; what was not read is dropped. */
  close(): Promise<void>;
}

/** Counted over all subscriptions of a bus. */
export interface Tally {
  messages: number;
  missed: number;
  malformed: number;
}

export interface SubscriptionOptions {
  readonly channel: string;
  readonly buffer: number;
  readonly schema: StandardSchemaV1 | undefined;
  readonly tally: Tally;
  readonly logger: LoggerLike;
  /** Called once, when it ends. */
  onEnd(this: void): void;
}

export class Subscription<T>
  implements NotifySubscription<T>, AsyncIterableIterator<Notification<T>>, ChannelHandler
{
  readonly channel: string;
  readonly #options: SubscriptionOptions;
  readonly #inbox: Inbox;
  readonly #end = deferred();
  #waiting: Deferred<void> | undefined;
  /** With a schema, which may take its time: one notice after another. */
  #turn: Promise<unknown> = Promise.resolve();
  #lagging = false;
  #open = false;
  #over = false;
  #error: Error | undefined;

  constructor(options: SubscriptionOptions) {
    this.channel = options.channel;
    this.#options = options;
    this.#inbox = new Inbox(options.buffer);
  }

  message(payload: string, processId: number): void {
    const { tally, channel, buffer } = this.#options;
    tally.messages += 1;
    if (!this.#inbox.message(payload, processId)) {
      tally.missed += 1;
      if (!this.#lagging) report('sluice:bus.lagged', () => ({ channel, buffer }));
      this.#lagging = true;
    }
    this.#wake();
  }

  /** From now on it must miss nothing without saying so. */
  open(): void {
    this.#open = true;
  }

  /** Resolves when it ends. */
  get ended(): Promise<void> {
    return this.#end.promise;
  }

  gap(generation: number): void {
    if (!this.#open) return; // it began with this session
    this.#inbox.gap(generation);
    this.#wake();
  }

  refused(error: unknown): void {
    this.#error = error instanceof Error ? error : new Error(String(error));
    this.#finish();
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<Notification<T>> {
    return this;
  }

  next(): Promise<IteratorResult<Notification<T>, undefined>> {
    if (!this.#options.schema) return this.#read();
    const result = this.#turn.then(async () => this.#read());
    this.#turn = result.catch(() => {});
    return result;
  }

  async #read(): Promise<IteratorResult<Notification<T>, undefined>> {
    for (;;) {
      if (this.#error !== undefined) {
        const error = this.#error;
        this.#error = undefined;
        throw error;
      }
      if (this.#over) return { done: true, value: undefined };
      const notice = this.#inbox.take();
      if (!notice) {
        this.#lagging = false;
        this.#waiting ??= deferred();
        await this.#waiting.promise;
        continue;
      }
      if (notice.kind !== 'message') return { done: false, value: notice };
      const value = this.#options.schema ? await this.#decode(notice) : plain<T>(notice);
      if (value && !this.#over) return { done: false, value };
    }
  }

  async return(): Promise<IteratorResult<Notification<T>, undefined>> {
    await this.close();
    return { done: true, value: undefined };
  }

  close(): Promise<void> {
    this.#error = undefined;
    this.#finish();
    return Promise.resolve();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #finish(): void {
    if (this.#over) return;
    this.#over = true;
    this.#options.onEnd();
    this.#end.resolve();
    this.#wake();
  }

  #wake(): void {
    this.#waiting?.resolve();
    this.#waiting = undefined;
  }

  /** Undefined: not what the schema takes; it was reported, and the subscription goes on. */
  async #decode(notice: Message): Promise<Notification<T> | undefined> {
    try {
      const verdict = await judge(this.#options.schema as StandardSchemaV1, JSON.parse(notice.payload));
      if (verdict.ok) return { ...notice, data: verdict.value as T };
      this.#malformed(notice, refusalText(verdict));
    } catch (error) {
      this.#malformed(notice, messageOf(error));
    }
    return undefined;
  }

  #malformed({ payload, processId }: Message, reason: string): void {
    const { tally, logger, channel } = this.#options;
    tally.malformed += 1;
    const details = { channel, processId, reason, bytes: payload.length };
    logger.warn(details, 'a notification was skipped: its payload does not fit the schema');
    report('sluice:bus.malformed', () => details);
  }
}

type Message = Extract<Notice, { kind: 'message' }>;

const plain = <T>(message: Message): Notification<T> => message as Message & { readonly data: T };
