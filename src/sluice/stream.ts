// One stream as users hold it: append, publish, read, subscribe. A name and the process's Sluice; holds nothing open.
import type { SqlExecutor } from '../db/queryable.ts';
import { encodeBatch, encodeEvent, type NewEvent } from '../log/encode.ts';
import { toStreamEvent, type StreamEvent } from '../log/event.ts';
import { publishEvents } from '../log/publish.ts';
import { MAX_PAGE_EVENTS } from '../log/read.ts';
import { streamInfo, type StreamDetails } from '../log/streams.ts';
import { trimStream, type Trimmed, type TrimOptions } from '../log/trim.ts';
import { encodePosition, type CursorPosition } from '../protocol/cursor.ts';
import type { Position } from '../protocol/position.ts';
import { EventIterator, type StreamSubscription } from '../tail/iterate.ts';
import { toError } from '../tail/loss.ts';
import { findStart, requirePosition } from '../tail/start.ts';
import { waitOrAbort } from '../util/abort.ts';
import type { Appended } from '../log/coalescer.ts';
import type { Core } from './core.ts';

export interface AppendOptions {
  readonly type?: string | undefined;
  readonly key?: string | undefined;
  readonly headers?: Record<string, string> | undefined;
  /** Stops waiting; an append already sent may still be committed. */
  readonly signal?: AbortSignal | undefined;
}

export interface PublishOptions extends AppendOptions {
  /** The caller's open transaction: a pg client fits. Without it, publish is a transaction of its own. */
  readonly tx?: SqlExecutor | undefined;
}

export interface ReadOptions {
  /** Strictly after this; default 'start'. */
  readonly after?: Position | undefined;
  /** Events at most, 1 to 1 000; default 1 000. */
  readonly limit?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface SubscribeOptions {
  /** Strictly after this; default 'start'. */
  readonly after?: Position | undefined;
  /** Ends the iteration normally. */
  readonly signal?: AbortSignal | undefined;
}

export interface ReadResult<T> {
  readonly events: StreamEvent<T>[];
  /** Where the page ends; read on from here. */
  readonly cursor: string;
  readonly head: bigint;
  readonly oldest: bigint;
  /** Whether the page reached the head. */
  readonly upToDate: boolean;
}

/** A named append-only log. */
export interface Stream<In = unknown, Out = In> {
  readonly name: string;
  /** Writes one event now and gives its offset, once it is committed and flushed. */
  append(data: In, options?: AppendOptions): Promise<{ offset: bigint; cursor: string; duplicate: boolean }>;
  /** Writes several events at consecutive offsets, together. Each event's own type, key and headers win over the options'. */
  appendMany(
    events: readonly NewEvent<In>[],
    options?: AppendOptions,
  ): Promise<{ first: bigint; last: bigint; cursor: string; duplicate: boolean }>;
  /** Writes one event in the caller's transaction; it appears after commit, and never after a rollback. */
  publish(data: In, options?: PublishOptions): Promise<{ id: string }>;
  publishMany(events: readonly NewEvent<In>[], options?: PublishOptions): Promise<{ ids: string[] }>;
  /** One page of events. */
  read(options?: ReadOptions): Promise<ReadResult<Out>>;
  /** Replay, then live; exactly once and in order. */
  subscribe(options?: SubscribeOptions): StreamSubscription<Out>;
  /**
   * Lets go of the oldest events. They are gone for every reader when this resolves; their space comes back in the
   * background. What is published and not moved yet is not trimmed.
   *
   * @throws RangeError beyond the head; SluiceError stream_not_found, overloaded (somebody holds the stream)
   * @example
   * const { oldest, removed } = await stream.trim({ maxCount: 1000 });
   */
  trim(options: TrimOptions): Promise<Trimmed>;
  /** Null: there is no such stream. */
  info(): Promise<StreamDetails | null>;
}

export class StreamHandle<In, Out> implements Stream<In, Out> {
  readonly name: string;
  readonly #core: Core;

  constructor(core: Core, name: string) {
    this.#core = core;
    this.name = name;
  }

  async append(
    data: In,
    options: AppendOptions = {},
  ): Promise<{ offset: bigint; cursor: string; duplicate: boolean }> {
    const { type, key, headers, signal } = options;
    signal?.throwIfAborted();
    const event = encodeEvent({ data, type, key, headers }, this.#core.limits);
    const appended = await waitOrAbort(this.#core.coalescer.append(this.name, [event]), signal);
    return { offset: appended.last, cursor: cursorOf(appended), duplicate: false };
  }

  async appendMany(
    events: readonly NewEvent<In>[],
    options: AppendOptions = {},
  ): Promise<{ first: bigint; last: bigint; cursor: string; duplicate: boolean }> {
    options.signal?.throwIfAborted();
    const encoded = encodeBatch(withDefaults(events, options), this.#core.limits);
    const appended = await waitOrAbort(this.#core.coalescer.append(this.name, encoded), options.signal);
    return { first: appended.first, last: appended.last, cursor: cursorOf(appended), duplicate: false };
  }

  async publish(data: In, options: PublishOptions = {}): Promise<{ id: string }> {
    const { type, key, headers, tx, signal } = options;
    signal?.throwIfAborted();
    const event = encodeEvent({ data, type, key, headers }, this.#core.limits);
    const [id] = await waitOrAbort(this.#publish([event], tx), signal);
    return { id: id ?? '' };
  }

  async publishMany(
    events: readonly NewEvent<In>[],
    options: PublishOptions = {},
  ): Promise<{ ids: string[] }> {
    options.signal?.throwIfAborted();
    const encoded = encodeBatch(withDefaults(events, options), this.#core.limits);
    return { ids: await waitOrAbort(this.#publish(encoded, options.tx), options.signal) };
  }

  async read(options: ReadOptions = {}): Promise<ReadResult<Out>> {
    const { after = 'start', limit = MAX_PAGE_EVENTS, signal } = options;
    if (!Number.isInteger(limit) || limit < 1 || limit > MAX_PAGE_EVENTS) {
      throw new RangeError(`limit is ${String(limit)}; give a whole number from 1 to ${MAX_PAGE_EVENTS}`);
    }
    const position = requirePosition(after);
    const start = await waitOrAbort(findStart(this.#core.database, this.name, position, limit), signal);
    if (start.kind === 'lost') throw toError(start.loss);
    const { state, place, events } = start;
    const identity = { name: this.name, incarnation: state.incarnation };
    const last: CursorPosition = { ...place, ...lastOf(events) };
    return {
      events: events.map((record) => toStreamEvent<Out>(identity, record)),
      cursor: encodePosition(last),
      head: state.head,
      oldest: state.trimmedTo + 1n,
      upToDate: last.offset >= state.head,
    };
  }

  subscribe(options: SubscribeOptions = {}): StreamSubscription<Out> {
    const { after = 'start', signal } = options;
    const position = requirePosition(after);
    return new EventIterator<Out>(this.#core.tails, { stream: this.name, after: position, signal });
  }

  async trim(options: TrimOptions): Promise<Trimmed> {
    const { database, settings } = this.#core;
    return trimStream(database, this.name, options, settings.appendTimeoutMs);
  }

  async info(): Promise<StreamDetails | null> {
    return streamInfo(this.#core.database, this.name);
  }

  #publish(events: Parameters<typeof publishEvents>[2], tx: SqlExecutor | undefined): Promise<string[]> {
    return publishEvents(this.#core.database, this.name, events, {
      tx,
      autoCreate: this.#core.settings.autoCreate,
    });
  }
}

const cursorOf = ({ incarnation, last, lastTag }: Appended): string =>
  encodePosition({ incarnation, offset: last, tag: lastTag });

const lastOf = (
  events: readonly { offset: bigint; tag: number }[],
): { offset: bigint; tag: number } | undefined => {
  const last = events.at(-1);
  return last && { offset: last.offset, tag: last.tag };
};

const withDefaults = (events: readonly NewEvent[], { type, key, headers }: AppendOptions): NewEvent[] =>
  events.map((event) => ({
    data: event.data,
    type: event.type ?? type,
    key: event.key ?? key,
    headers: event.headers ?? headers,
  }));
