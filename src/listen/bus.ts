// The public face of the listener: subscriptions by channel name, notifications sent, generations. Sluice's own tails
// and relay hear over the same listener. Without Sluice, it also owns the connections (`own`).
import type { Database } from '../db/database.ts';
import { onAbort, throwIfAborted, waitOrAbort } from '../util/abort.ts';
import { wholeWithin } from '../util/bounds.ts';
import { SluiceError } from '../util/errors.ts';
import type { LoggerLike } from '../util/logger.ts';
import { requireSchema, type StandardSchemaV1 } from '../util/standard-schema.ts';
import { checkPayload, serverChannel } from './channel.ts';
import type { Listener, ListenerState } from './listener.ts';
import { notify } from './notify.ts';
import { Subscription, type NotifySubscription, type Tally } from './subscription.ts';

export interface NotifySubscribeOptions {
  /** Messages kept while the reader is busy; the oldest go first, and `lagged` says how many. Default 256, at most 1 048 576. */
  readonly buffer?: number | undefined;
  /** Before it resolves: abandons subscribing. Afterwards: ends the iteration. */
  readonly signal?: AbortSignal | undefined;
}

export interface TypedSubscribeOptions<T> extends NotifySubscribeOptions {
  /** What the payload, parsed as JSON, must fit; what does not is skipped and reported. Any Standard Schema. */
  readonly schema: StandardSchemaV1<unknown, T>;
}

/** What a bus is doing and has done. */
export interface NotifyBusStats {
  readonly state: ListenerState;
  readonly generation: number;
  /** Sessions after the first. */
  readonly reconnects: number;
  readonly channels: number;
  readonly subscriptions: number;
  /** Messages that went to subscriptions, each counted for each of them. */
  readonly messages: number;
  /** Of them, pushed out of a subscription's buffer before they were read. */
  readonly missed: number;
  /** How often a subscription was told that something may be missing, each counted for each of them. */
  readonly gaps: number;
  /** Of them, skipped because they did not fit the schema. */
  readonly malformed: number;
  /** How much of the server's notification queue was in use at the last heartbeat, 0 to 1; null before it. */
  readonly queueUsage: number | null;
  /** How long the last heartbeat took, in milliseconds; null before it. */
  readonly roundTripMs: number | null;
}

/**
 * LISTEN and NOTIFY over one connection, for any number of channels and subscriptions. What PostgreSQL does not deliver
 * while nobody listens is not delivered later either: every subscription is told where that may have happened.
 */
export interface NotifyBus extends AsyncDisposable {
  /**
   * Notifications of a channel, from when this resolves: LISTEN is in force then, however long a connection takes.
   *
   * @throws SluiceError name_invalid, closed; listener_unavailable where notifications do not arrive, as behind a pooler
   * in transaction mode; permission_denied, unsupported_server while there never was a session
   * @example
   * for await (const notice of await bus.subscribe('orders')) {
   *   if (notice.kind === 'message') show(notice.payload);
   *   else await readAgain(); // 'gap' or 'lagged': something may be missing here
   * }
   */
  subscribe(channel: string, options?: NotifySubscribeOptions): Promise<NotifySubscription>;
  subscribe<T>(channel: string, options: TypedSubscribeOptions<T>): Promise<NotifySubscription<T>>;
  /**
   * Sends a notification; resolves when it is committed.
   *
   * @throws SluiceError name_invalid, payload_too_large (over 7 999 bytes), payload_invalid, connection_lost, overloaded
   */
  notify(channel: string, payload?: string): Promise<void>;
  /** 0: never connected; 1 in the first session, one more in each new one. */
  readonly generation: number;
  /** Each generation that begins from now on, in order. */
  generations(options?: { readonly signal?: AbortSignal | undefined }): AsyncIterable<number>;
  /** The channels listened to: those subscribed to, and those given up front. */
  readonly channels: readonly string[];
  stats(): NotifyBusStats;
  /** Ends all iterations. */
  close(): Promise<void>;
}

export interface BusOptions {
  readonly listener: Listener;
  readonly logger: LoggerLike;
  /** To send over. */
  readonly database: Database;
  /** Closes the connections, if they are the bus's own. */
  closeConnections(this: void): Promise<void>;
}

const DEFAULT_BUFFER = 256;
const MAX_BUFFER = 2 ** 20;
const ignore = (): void => {};

export class Bus implements NotifyBus {
  readonly #options: BusOptions;
  readonly #subscriptions = new Set<Subscription<unknown>>();
  /** How many subscriptions a channel has, and one more if it was given up front. */
  readonly #users = new Map<string, number>();
  readonly #tally: Tally = { messages: 0, missed: 0, gaps: 0, malformed: 0 };
  readonly #closing = new AbortController();
  #closed: Promise<void> | undefined;

  /** @param channels listened to from the start @throws SluiceError name_invalid */
  constructor(options: BusOptions, channels: readonly string[] = []) {
    this.#options = options;
    const names = channels.map((name) => ({ name, channel: serverChannel(name) }));
    for (const { name, channel } of names) {
      const refused = (): void => this.#leave(name);
      options.listener.hear(channel, { message: ignore, gap: ignore, refused });
      this.#use(name);
    }
    if (channels.length > 0) options.listener.start();
  }

  async subscribe<T>(
    name: string,
    options: NotifySubscribeOptions & Partial<TypedSubscribeOptions<T>> = {},
  ): Promise<NotifySubscription<T>> {
    const { buffer = DEFAULT_BUFFER, signal, schema } = options;
    const channel = serverChannel(name);
    wholeWithin('buffer', buffer, [1, MAX_BUFFER]);
    if (schema !== undefined) requireSchema(schema);
    throwIfAborted(signal);
    if (this.#closed) throw closed();
    const { listener, logger } = this.#options;
    const letGo = signal && onAbort(signal, () => void subscription.close());
    const onEnd = (): void => {
      letGo?.();
      this.#subscriptions.delete(subscription);
      leave();
      this.#leave(name);
    };
    const tally = this.#tally;
    const subscription = new Subscription<T>({ channel: name, buffer, schema, tally, logger, onEnd });
    const leave = listener.hear(channel, subscription);
    this.#use(name);
    this.#subscriptions.add(subscription);
    listener.start();
    try {
      await Promise.race([listener.inForce(channel), subscription.ended]);
      signal?.throwIfAborted();
      if (this.#closed) throw closed();
    } catch (error) {
      await subscription.close();
      throw error;
    }
    subscription.open();
    return subscription;
  }

  async notify(name: string, payload = ''): Promise<void> {
    const channel = serverChannel(name);
    checkPayload(name, payload);
    if (this.#closed) throw closed();
    await notify(this.#options.database, channel, payload);
  }

  get generation(): number {
    return this.#options.listener.generation;
  }

  generations({ signal }: { readonly signal?: AbortSignal | undefined } = {}): AsyncIterable<number> {
    if (!this.#closed) this.#options.listener.start();
    const ending = signal ? AbortSignal.any([signal, this.#closing.signal]) : this.#closing.signal;
    const { listener } = this.#options;
    const { generation } = listener;
    return { [Symbol.asyncIterator]: () => new Generations(listener, generation, ending) };
  }

  get channels(): readonly string[] {
    return [...this.#users.keys()];
  }

  stats(): NotifyBusStats {
    const { listener } = this.#options;
    const { state, generation, lastBeat } = listener;
    return {
      state,
      generation,
      reconnects: Math.max(0, generation - 1),
      channels: this.#users.size,
      subscriptions: this.#subscriptions.size,
      ...this.#tally,
      queueUsage: lastBeat?.queueUsage ?? null,
      roundTripMs: lastBeat?.roundTripMs ?? null,
    };
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    this.#closing.abort(closed());
    for (const subscription of this.#subscriptions) await subscription.close();
    this.#users.clear();
    await this.#options.closeConnections();
  }

  #use(name: string): void {
    this.#users.set(name, (this.#users.get(name) ?? 0) + 1);
  }

  #leave(name: string): void {
    const users = (this.#users.get(name) ?? 1) - 1;
    if (users > 0) this.#users.set(name, users);
    else this.#users.delete(name);
  }
}

/** Counts on from the generation it starts in; one number is all it has to keep. */
class Generations implements AsyncIterableIterator<number> {
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

const closed = (): SluiceError => new SluiceError('closed', 'this bus is closed');
