// One subscription of a bus as an async iterable: its inbox, read one notice after another. A slow reader costs its own
// inbox and nobody else. Leaving the loop, the signal, and closing the bus end it normally; a channel that the server
// refuses makes it throw.
import { deferred } from '../util/deferred.ts';
import { report } from '../util/diagnostics.ts';
import { asError, messageOf } from '../util/errors.ts';
import type { LoggerLike } from '../util/logger.ts';
import { judge, refusalText, type StandardSchemaV1 } from '../util/standard-schema.ts';
import type { ChannelHandler } from './hub.ts';
import { Inbox, type Message, type Notice } from './inbox.ts';

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
  gaps: number;
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
  /** Those who asked for a notice when there was none: each gets one as it comes. */
  readonly #readers: ((result: Result<Notice> | Promise<Result<Notice>>) => void)[] = [];
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

  message(message: Message): void {
    const { tally, channel, buffer } = this.#options;
    tally.messages += 1;
    if (this.#handOver(message) || this.#inbox.message(message)) return;
    tally.missed += 1;
    if (!this.#lagging) report('sluice:bus.lagged', () => ({ channel, buffer }));
    this.#lagging = true;
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
    this.#options.tally.gaps += 1;
    if (!this.#handOver({ kind: 'gap', generation })) this.#inbox.gap(generation);
  }

  refused(error: unknown): void {
    this.#error = asError(error);
    this.#finish();
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<Notification<T>> {
    return this;
  }

  next(): Promise<Result<Notification<T>>> {
    if (!this.#options.schema) return this.#read() as Promise<Result<Notification<T>>>;
    const result = this.#turn.then(async () => this.#readDecoded());
    this.#turn = result.catch(() => {});
    return result;
  }

  /** Whether somebody waits for it; nobody does while the inbox holds anything. */
  #handOver(notice: Notice): boolean {
    const answer = this.#readers.shift();
    answer?.({ done: false, value: notice });
    return answer !== undefined;
  }

  /** Not an async function, so that what is there already costs one promise: there may be a million in a second. */
  #read(): Promise<Result<Notice>> {
    if (this.#error !== undefined) {
      const error = this.#error;
      this.#error = undefined;
      return Promise.reject(error);
    }
    if (this.#over) return Promise.resolve(DONE);
    const notice = this.#inbox.take();
    if (notice) return Promise.resolve({ done: false, value: notice });
    this.#lagging = false;
    return new Promise((answer) => {
      this.#readers.push(answer);
    });
  }

  async #readDecoded(): Promise<Result<Notification<T>>> {
    for (;;) {
      const result = await this.#read();
      if (result.done || result.value.kind !== 'message') return result as Result<Notification<T>>;
      const value = await this.#decode(result.value);
      if (this.#over) return DONE;
      if (value) return { done: false, value };
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
    for (const answer of this.#readers.splice(0)) answer(this.#read());
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

type Result<N> = IteratorResult<N, undefined>;

const DONE = { done: true, value: undefined } as const;
