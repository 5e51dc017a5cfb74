// The public face of the listener: subscriptions by channel name, in loops and by handlers, notifications sent, generations.
// Sluice's own tails and relay hear over the same listener. Without Sluice, it also owns the connections.
import type { Database } from '../db/database.ts';
import { onAbort, throwIfAborted } from '../util/abort.ts';
import { wholeWithin } from '../util/bounds.ts';
import { report } from '../util/diagnostics.ts';
import { SluiceError } from '../util/errors.ts';
import type { LoggerLike } from '../util/logger.ts';
import { Seldom } from '../util/seldom.ts';
import { requireSchema, type StandardSchemaV1 } from '../util/standard-schema.ts';
import type {
  NotifyListenOptions,
  NotifySubscribeOptions,
  TypedListenOptions,
  TypedSubscribeOptions,
} from './call-options.ts';
import { checkPayload, serverChannel } from './channel.ts';
import { Decoder } from './decoder.ts';
import { Generations } from './generations.ts';
import type { ChannelHandler } from './hearers.ts';
import type { NotifyBusStats } from './bus-stats.ts';
import type { Listener } from './listener.ts';
import type { Tally } from './notification.ts';
import { notify } from './notify.ts';
import {
  HandlerSubscription,
  type NotifyHandler,
  type NotifyHandlerSubscription,
} from './handler-subscription.ts';
import { Subscription, type NotifySubscription } from './subscription.ts';

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
   * Calls a handler for each notification of a channel as soon as it is read, in order, from when this resolves. Nothing
   * is kept: everything else on the connection waits while a handler runs, and nobody waits for a promise that it returns.
   * For work that takes time there is `subscribe`. A handler that fails is reported, and called for the next one.
   *
   * @throws what subscribe throws; TypeError for a handler that is no function
   * @example
   * await using subscription = await bus.listen('prices', (notice) => {
   *   if (notice.kind === 'message') cache.delete(notice.payload);
   *   else cache.clear(); // 'gap': something may be missing here
   * });
   */
  listen(
    channel: string,
    handler: NotifyHandler,
    options?: NotifyListenOptions,
  ): Promise<NotifyHandlerSubscription>;
  listen<T>(
    channel: string,
    handler: NotifyHandler<T>,
    options: TypedListenOptions<T>,
  ): Promise<NotifyHandlerSubscription>;
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
  /** Ends all subscriptions, from this very call on. */
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

/** A subscription, in a loop or by a handler. */
interface Heard extends ChannelHandler {
  /** Resolves when it ends. */
  readonly ended: Promise<void>;
  /** LISTEN is in force. */
  open(): void;
  close(): Promise<void>;
}

export class Bus implements NotifyBus {
  readonly #options: BusOptions;
  readonly #heard = new Set<Heard>();
  /** How many subscriptions a channel has, and one more if it was given up front. */
  readonly #users = new Map<string, number>();
  readonly #tally: Tally = { messages: 0, missed: 0, gaps: 0, malformed: 0, failed: 0 };
  /** Which of them the log is told of, by channel: handlers' failures, and what did not fit. */
  readonly #failures = new Seldom<string>();
  readonly #skipped = new Seldom<string>();
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
    const decoder = this.#decoder(name, schema);
    const tally = this.#tally;
    return this.#hear(name, channel, signal, (onEnd) => {
      return new Subscription<T>({ channel: name, buffer, decoder, tally, onEnd });
    });
  }

  async listen<T>(
    name: string,
    handler: NotifyHandler<T>,
    options: NotifyListenOptions & Partial<TypedListenOptions<T>> = {},
  ): Promise<NotifyHandlerSubscription> {
    const { signal, schema } = options;
    const channel = serverChannel(name);
    if (typeof handler !== 'function') throw new TypeError('the handler is none; give a function');
    const decoder = this.#decoder(name, schema);
    const tally = this.#tally;
    const onFailure = (error: unknown): void => this.#failed(name, error);
    return this.#hear(name, channel, signal, (onEnd) => {
      return new HandlerSubscription<T>({ channel: name, handler, decoder, tally, onFailure, onEnd });
    });
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
      subscriptions: this.#heard.size,
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
    for (const each of this.#heard) void each.close(); // at once, for a handler may be what closes the bus
    this.#users.clear();
    await this.#options.closeConnections();
  }

  /** Resolves once LISTEN is in force, with what is given the channel's notices until it ends. */
  async #hear<H extends Heard>(
    name: string,
    channel: string,
    signal: AbortSignal | undefined,
    make: (onEnd: () => void) => H,
  ): Promise<H> {
    throwIfAborted(signal);
    if (this.#closed) throw closed();
    const { listener } = this.#options;
    const letGo = signal && onAbort(signal, () => void heard.close());
    const heard = make(() => {
      letGo?.();
      this.#heard.delete(heard);
      leave();
      this.#leave(name);
    });
    const leave = listener.hear(channel, heard);
    this.#use(name);
    this.#heard.add(heard);
    listener.start();
    try {
      await Promise.race([listener.inForce(channel), heard.ended]);
      signal?.throwIfAborted();
      if (this.#closed) throw closed();
    } catch (error) {
      await heard.close();
      throw error;
    }
    heard.open();
    return heard;
  }

  #decoder<T>(channel: string, schema: StandardSchemaV1<unknown, T> | undefined): Decoder<T> | undefined {
    if (schema === undefined) return undefined;
    requireSchema(schema);
    const { logger } = this.#options;
    return new Decoder<T>({ channel, schema, tally: this.#tally, logger, seldom: this.#skipped });
  }

  /** A handler may fail for each of thousands of messages: diagnostics tell each, the log now and then. */
  #failed(channel: string, error: unknown): void {
    this.#tally.failed += 1;
    report('sluice:bus.failed', () => ({ channel, error }));
    const failures = this.#failures.count(channel, performance.now());
    if (failures === 0) return;
    const message = 'a handler of a channel failed; it is called for what comes next all the same';
    this.#options.logger.error({ channel, error, failures }, message);
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

const closed = (): SluiceError => new SluiceError('closed', 'this bus is closed');
