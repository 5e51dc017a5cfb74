// One subscription of a bus as an async iterable: its inbox, read one notice after another. A slow reader costs its own
// inbox and nobody else. Leaving the loop, the signal, and closing the bus end it normally; a channel that the server
// refuses makes it throw.
import { deferred } from '../util/deferred.ts';
import { report } from '../util/diagnostics.ts';
import { asError } from '../util/errors.ts';
import type { Decoder } from './decoder.ts';
import type { ChannelHandler } from './hearers.ts';
import { Inbox, type Message, type Notice } from './inbox.ts';
import type { Notification, Tally } from './notification.ts';

/** Notifications of one channel. Leaving the loop unsubscribes. */
export interface NotifySubscription<T = undefined> extends AsyncIterable<Notification<T>>, AsyncDisposable {
  readonly channel: string;
  /** Ends the iteration; what was not read is dropped. */
  close(): Promise<void>;
}

export interface SubscriptionOptions<T> {
  readonly channel: string;
  readonly buffer: number;
  /** With a schema. */
  readonly decoder: Decoder<T> | undefined;
  readonly tally: Tally;
  /** Called once, when it ends. */
  onEnd(this: void): void;
}

export class Subscription<T>
  implements NotifySubscription<T>, AsyncIterableIterator<Notification<T>>, ChannelHandler
{
  readonly channel: string;
  readonly #options: SubscriptionOptions<T>;
  readonly #tally: Tally;
  readonly #decoder: Decoder<T> | undefined;
  readonly #end = deferred();
  /** What waits to be read, while anything does. */
  #inbox: Inbox | undefined;
  /** Who asked for a notice when there was none: gets the next one as it comes. A loop is one, and needs no list. */
  #reader: Answer | undefined;
  /** Those who asked after that one. */
  #others: Answer[] | undefined;
  /** With a schema, which may take its time: one notice after another. */
  #turn: Promise<unknown> = Promise.resolve();
  /** Ends the wait for the schema, if one is under way. */
  #giveUp: (() => void) | undefined;
  #lagging = false;
  #open = false;
  #over = false;
  #error: Error | undefined;

  constructor(options: SubscriptionOptions<T>) {
    this.channel = options.channel;
    this.#options = options;
    this.#tally = options.tally;
    this.#decoder = options.decoder;
  }

  message(message: Message): void {
    this.#tally.messages += 1;
    if (this.#handOver(message) || this.#keep().message(message)) return;
    this.#tally.missed += 1;
    const { channel, buffer } = this.#options;
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
    this.#tally.gaps += 1;
    if (!this.#handOver({ kind: 'gap', generation })) this.#keep().gap(generation);
  }

  refused(error: unknown): void {
    this.#error = asError(error);
    this.#finish();
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<Notification<T>> {
    return this;
  }

  next(): Promise<Result<Notification<T>>> {
    const decoder = this.#decoder;
    if (decoder === undefined) return this.#read() as Promise<Result<Notification<T>>>;
    const result = this.#turn.then(async () => this.#readDecoded(decoder));
    this.#turn = result.catch(() => {});
    return result;
  }

  /** Whether somebody waits for it; nobody does while the inbox holds anything. */
  #handOver(notice: Notice): boolean {
    const answer = this.#reader;
    if (answer === undefined) return false;
    this.#reader = this.#others?.shift();
    answer({ done: false, value: notice });
    return true;
  }

  #keep(): Inbox {
    this.#inbox ??= new Inbox(this.#options.buffer);
    return this.#inbox;
  }

  /** Not an async function, so that what is there already costs one promise: there may be a million in a second. */
  #read(): Promise<Result<Notice>> {
    if (this.#error !== undefined) {
      const error = this.#error;
      this.#error = undefined;
      return Promise.reject(error);
    }
    if (this.#over) return Promise.resolve(DONE);
    if (this.#inbox !== undefined) {
      const notice = this.#inbox.take();
      if (notice) return Promise.resolve({ done: false, value: notice });
      this.#inbox = undefined;
      this.#lagging = false;
    }
    return new Promise((answer) => {
      if (this.#reader === undefined) this.#reader = answer;
      else (this.#others ??= []).push(answer);
    });
  }

  async #readDecoded(decoder: Decoder<T>): Promise<Result<Notification<T>>> {
    for (;;) {
      const result = await this.#read();
      if (result.done || result.value.kind !== 'message') return result as Result<Notification<T>>;
      const value = await this.#unlessOver(decoder.decode(result.value));
      if (this.#over) return this.#read() as Promise<Result<Notification<T>>>; // the end, or why
      if (value) return { done: false, value };
    }
  }

  /** Undefined as soon as it ends: a schema may take for ever. */
  #unlessOver<V>(work: Promise<V>): Promise<V | undefined> {
    return new Promise((resolve, reject) => {
      this.#giveUp = () => resolve(undefined);
      if (this.#over) this.#giveUp(); // it ended between being given the message and this
      work.then(resolve, reject);
    });
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
    this.#giveUp?.();
    for (let answer = this.#reader; answer; answer = this.#reader) {
      this.#reader = this.#others?.shift();
      answer(this.#read());
    }
  }
}

type Result<N> = IteratorResult<N, undefined>;
type Answer = (result: Result<Notice> | Promise<Result<Notice>>) => void;

const DONE = { done: true, value: undefined } as const;
