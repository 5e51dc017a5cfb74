// One subscription of a bus by a handler, which is called for each notice of a channel as soon as it is read, in order. It
// keeps nothing and waits for nothing. Nothing that a handler does may reach whoever calls it: other handlers of the
// channel, the notifications behind this one and the session itself come after it.
import { deferred } from '../util/deferred.ts';
import { isThenable } from '../util/standard-schema.ts';
import type { Decoder } from './decoder.ts';
import type { ChannelHandler } from './hearers.ts';
import type { Message } from './inbox.ts';
import type { NotifyGap, NotifyMessage, Tally } from './notification.ts';

/** What `listen` calls. What it throws, and what a promise that it returns is rejected with, is reported. */
export type NotifyHandler<T = undefined> = (notice: NotifyMessage<T> | NotifyGap) => void;

/** A handler that is called for the notifications of one channel. */
export interface NotifyHandlerSubscription extends AsyncDisposable {
  readonly channel: string;
  /** The handler is not called any more, from this very call on. */
  close(): Promise<void>;
}

export interface HandlerSubscriptionOptions<T> {
  readonly channel: string;
  readonly handler: NotifyHandler<T>;
  /** With a schema. */
  readonly decoder: Decoder<T> | undefined;
  readonly tally: Tally;
  /** Told of what the handler throws. */
  onFailure(this: void, error: unknown): void;
  /** Called once, when it ends. */
  onEnd(this: void): void;
}

export class HandlerSubscription<T> implements NotifyHandlerSubscription, ChannelHandler {
  readonly channel: string;
  readonly #options: HandlerSubscriptionOptions<T>;
  readonly #handler: NotifyHandler<T>;
  readonly #decoder: Decoder<T> | undefined;
  readonly #tally: Tally;
  readonly #end = deferred();
  /** Opened, and not over. */
  #calls = false;
  #over = false;

  constructor(options: HandlerSubscriptionOptions<T>) {
    this.channel = options.channel;
    this.#options = options;
    this.#handler = options.handler;
    this.#decoder = options.decoder;
    this.#tally = options.tally;
  }

  message(message: Message): void {
    if (!this.#calls) return;
    this.#tally.messages += 1;
    if (this.#decoder === undefined) return this.#call(message as NotifyMessage<T>);
    const notice = this.#decoder.decodeNow(message);
    if (notice && this.#calls) this.#call(notice); // the schema is the user's too, and may have closed it
  }

  gap(generation: number): void {
    if (!this.#calls) return; // it began with this session
    this.#tally.gaps += 1;
    this.#call({ kind: 'gap', generation });
  }

  /** There is nobody to throw to: that the channel was refused has been reported. */
  refused(): void {
    void this.close();
  }

  /** From now on it is called: whoever asked for it may rely on that it was not before. */
  open(): void {
    this.#calls = !this.#over;
  }

  /** Resolves when it ends. */
  get ended(): Promise<void> {
    return this.#end.promise;
  }

  close(): Promise<void> {
    this.#calls = false;
    if (!this.#over) {
      this.#over = true;
      this.#options.onEnd();
      this.#end.resolve();
    }
    return Promise.resolve();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #call(notice: NotifyMessage<T> | NotifyGap): void {
    const handler = this.#handler; // called as what it is, not as a member of this
    try {
      const returned: unknown = handler(notice);
      if (isThenable(returned)) void returned.then(undefined, this.#options.onFailure);
    } catch (error) {
      this.#options.onFailure(error);
    }
  }
}
