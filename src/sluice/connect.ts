// The public object and how to get one: checks names, passes on to the parts in core, and holds nothing of its own.
// Other layers of the package reach those parts through coreOf, users never.
import { listGroups, type GroupInfo } from '../groups/stats.ts';
import type { NotifyBus } from '../listen/bus.ts';
import type { ListenerState } from '../listen/listener.ts';
import { migrateDatabase } from '../db/migrate.ts';
import { checkStreamName } from '../log/encode.ts';
import type { PayloadOptions } from '../log/payload-schema.ts';
import { configureStream, type StreamChanges, type StreamOptions } from '../log/stream-options.ts';
import {
  createStream,
  deleteStream,
  listStreams,
  requireInfo,
  type StreamDetails,
  type StreamInfo,
} from '../log/streams.ts';
import { dropUndeliverable, listUndeliverable, type Undeliverable } from '../log/undeliverable.ts';
import { takeWatermark } from '../log/watermark.ts';
import { throwIfAborted, untilAborted, waitOrAbort } from '../util/abort.ts';
import { Core } from './core.ts';
import { environment } from './environment.ts';
import { settle, type ConnectOptions } from './options.ts';
import { StreamHandle, type Stream } from './stream.ts';

/** How a process is; `ok` is false when something needs attention. */
export interface Health {
  readonly ok: boolean;
  /** The database answered within two seconds. */
  readonly database: boolean;
  /** Notifications arrive; where they do not, readers poll. */
  readonly listener: boolean;
  /** `unavailable`: there is a connection, and notifications do not arrive over it, as behind a transaction pooler. */
  readonly listenerState: ListenerState;
  /** How many sessions the listener has had. */
  readonly generation: number;
}

/** Event streams in one schema of one database. */
export interface Sluice extends AsyncDisposable {
  /**
   * A handle; no I/O. With a `schema` its payloads are checked and its types follow from it: `In` is what may be
   * written, `Out` what is read with `validateOnRead`. Without that, events are read as stored: with defaults or
   * transforms in the schema `Out` then promises more than there is. Calls on one handle keep their order, also with an
   * asynchronous schema; `publish` must then be awaited before the commit.
   *
   * @throws SluiceError name_invalid; TypeError for what is no Standard Schema
   * @example
   * const orders = sluice.stream('orders', { schema: z.object({ id: z.int() }) });
   */
  stream<In = unknown, Out = In>(name: string, options?: PayloadOptions<In, Out>): Stream<In, Out>;
  /**
   * Creates a stream. One that append or publish created keeps everything, until it is configured.
   *
   * @throws SluiceError stream_exists, name_invalid; TypeError, RangeError for options
   */
  createStream(name: string, options?: StreamOptions): Promise<StreamDetails>;
  /**
   * Changes options of a stream: those given; null takes a bound away. Once it resolves, nothing is trimmed any more by
   * what was set before.
   *
   * @throws SluiceError stream_not_found, overloaded (somebody holds the stream); TypeError, RangeError for options
   * @example
   * await sluice.configureStream('orders', { maxAgeMs: 30 * 86_400_000, maxCount: null });
   */
  configureStream(name: string, changes: StreamChanges): Promise<StreamDetails>;
  /** Deletes a stream and its events. False: there was none. */
  deleteStream(name: string): Promise<boolean>;
  /** Streams whose name starts with `prefix`, in bytewise order of their names. @throws SluiceError name_invalid */
  streams(options?: {
    readonly prefix?: string | undefined;
    readonly signal?: AbortSignal | undefined;
  }): AsyncIterable<StreamInfo>;
  /**
   * The watermark of a page: one cursor for all its streams, to render into it and hand to `?after=`. What happens after
   * this has resolved arrives once over the connection that the page opens, however late it opens it. Take it before you
   * read what the page shows: what is committed in between is then in both, and nothing is in neither. A stream that
   * does not exist yet will be read from its beginning.
   *
   * @throws SluiceError name_invalid; RangeError for no stream, or more than 20
   * @example
   * const after = await sluice.watermark(['orders', 'stock']);
   * const url = `/v1/events?stream=orders&stream=stock&after=${after}`;
   */
  watermark(
    streams: readonly string[],
    options?: { readonly signal?: AbortSignal | undefined },
  ): Promise<string>;
  /** All groups, or those of one stream, with their statistics, in order of their names. */
  groups(options?: {
    readonly stream?: string | undefined;
    readonly signal?: AbortSignal | undefined;
  }): AsyncIterable<GroupInfo>;
  /** Published events whose stream was closed or deleted before they could be moved into its log, oldest first. */
  undeliverable(options?: { readonly signal?: AbortSignal | undefined }): AsyncIterable<Undeliverable>;
  /**
   * Removes undeliverable events for good: those with the ids, or all up to the newest that is listed now. What becomes
   * undeliverable later stays; to remove nothing that you have not looked at, give ids. 500 go in each transaction: an abort
   * or an error leaves the others. Returns how many went.
   *
   * @throws SluiceError permission_denied (it takes the right `manage`); TypeError for what is no array of ids
   * @example
   * for await (const { id, stream } of sluice.undeliverable())
   *   if (stream === 'carts') await sluice.dropUndeliverable({ ids: [id] });
   */
  dropUndeliverable(options?: {
    readonly ids?: readonly string[] | undefined;
    readonly signal?: AbortSignal | undefined;
  }): Promise<number>;
  /** Notifications of your own, over the connection that Sluice listens on. Closing it leaves Sluice open. */
  readonly bus: NotifyBus;
  health(): Promise<Health>;
  /** Finishes what was accepted, ends all subscriptions, and lets go of the database. */
  close(): Promise<void>;
}

/**
 * Connects to a database whose schema is installed.
 *
 * @throws SluiceError connection_lost, permission_denied, unsupported_server, schema_mismatch
 * @throws TypeError, RangeError for options that cannot be used
 * @example
 * await using sluice = await connect({ connectionString });
 * await sluice.stream('orders').publish({ id: 1 }, { tx: client });
 */
export async function connect(options: ConnectOptions = {}): Promise<Sluice> {
  const settings = settle(options, environment());
  throwIfAborted(options.signal);
  const core = new Core(settings);
  try {
    await waitOrAbort(core.open(), options.signal);
  } catch (error) {
    const closed = core.close();
    if (options.signal?.aborted) closed.catch(() => {}); // it waits for a server that may not answer; nobody else does
    else await closed;
    throw error;
  }
  const face = new ConnectedSluice(core);
  cores.set(face, core);
  return face;
}

/**
 * Installs Sluice's schema, or brings it up to date. Safe to run from several processes at once.
 *
 * @throws SluiceError permission_denied, unsupported_server, overloaded (a lock was not to be had in time)
 */
export async function migrate(options: ConnectOptions = {}): Promise<{ from: number; to: number }> {
  const { connectionString, pool, schema } = settle(options, environment());
  throwIfAborted(options.signal);
  return waitOrAbort(migrateDatabase({ connectionString, pool, schema }), options.signal);
}

const cores = new WeakMap<Sluice, Core>();

/** The parts behind a public object, for the package's own layers. @throws TypeError */
export function coreOf(sluice: Sluice): Core {
  const core = cores.get(sluice);
  if (!core) throw new TypeError('not a Sluice: give what connect() returned');
  return core;
}

class ConnectedSluice implements Sluice {
  readonly #core: Core;

  constructor(core: Core) {
    this.#core = core;
  }

  get bus(): NotifyBus {
    return this.#core.bus;
  }

  stream<In = unknown, Out = In>(name: string, options: PayloadOptions<In, Out> = {}): Stream<In, Out> {
    checkStreamName(name);
    return new StreamHandle<In, Out>(this.#core, name, options);
  }

  async createStream(name: string, options: StreamOptions = {}): Promise<StreamDetails> {
    checkStreamName(name);
    return createStream(this.#core.database, name, options);
  }

  async configureStream(name: string, changes: StreamChanges): Promise<StreamDetails> {
    checkStreamName(name);
    const { database, settings } = this.#core;
    await configureStream(database, name, changes, settings.appendTimeoutMs);
    return requireInfo(database, name);
  }

  async deleteStream(name: string): Promise<boolean> {
    checkStreamName(name);
    const incarnation = await deleteStream(this.#core.database, name);
    if (incarnation === undefined) return false;
    this.#core.deleted(incarnation);
    return true;
  }

  streams(
    options: { readonly prefix?: string | undefined; readonly signal?: AbortSignal | undefined } = {},
  ): AsyncIterable<StreamInfo> {
    const { prefix = '', signal } = options;
    if (prefix !== '') checkStreamName(prefix, 'prefix');
    return untilAborted(listStreams(this.#core.database, prefix), signal);
  }

  async watermark(
    streams: readonly string[],
    options: { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<string> {
    if (!Array.isArray(streams)) throw new TypeError('streams must be an array of names');
    for (const name of streams) checkStreamName(name);
    throwIfAborted(options.signal);
    return waitOrAbort(takeWatermark(this.#core.database, streams), options.signal);
  }

  groups(
    options: { readonly stream?: string | undefined; readonly signal?: AbortSignal | undefined } = {},
  ): AsyncIterable<GroupInfo> {
    const { stream, signal } = options;
    if (stream !== undefined) checkStreamName(stream);
    return untilAborted(listGroups(this.#core.database, stream), signal);
  }

  undeliverable(options: { readonly signal?: AbortSignal | undefined } = {}): AsyncIterable<Undeliverable> {
    return untilAborted(listUndeliverable(this.#core.database), options.signal);
  }

  async dropUndeliverable(
    options: { readonly ids?: readonly string[] | undefined; readonly signal?: AbortSignal | undefined } = {},
  ): Promise<number> {
    const { ids, signal } = options;
    throwIfAborted(signal);
    return waitOrAbort(dropUndeliverable(this.#core.database, ids, signal), signal);
  }

  async health(): Promise<Health> {
    const database = await this.#core.ping();
    const { connected: listener, state: listenerState, generation } = this.#core.listener;
    return { ok: database && listener, database, listener, listenerState, generation };
  }

  close(): Promise<void> {
    return this.#core.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
