// One stream as users hold it: append, publish, broadcast, read, subscribe. A name and the process's Sluice; holds nothing open.
import { Admission, type Arrival } from '../log/admission.ts';
import { cursorOf } from '../log/cursor-of.ts';
import { decodePage, decodeWith, type Decode } from '../log/decode.ts';
import { encodeBatch, encodeEvent, type NewEvent } from '../log/encode.ts';
import { toStreamEvent, type StreamEvent } from '../log/event.ts';
import { GroupHandle, type Group } from '../groups/group.ts';
import type { GroupOptions } from '../groups/options.ts';
import { MAX_EPHEMERAL_BYTES } from '../ephemerals/broadcaster.ts';
import { publishEvents } from '../log/publish.ts';
import { MAX_PAGE_EVENTS } from '../log/read.ts';
import { checkPayloadOptions, type PayloadOptions } from '../log/payload-schema.ts';
import type { StandardSchemaV1 } from '../util/standard-schema.ts';
import { streamInfo, type StreamDetails } from '../log/streams.ts';
import { trimStream, type Trimmed, type TrimOptions } from '../log/trim.ts';
import { encodePosition, type CursorPosition } from '../protocol/cursor.ts';
import { EventIterator, type StreamSubscription } from '../tail/iterate.ts';
import { toError } from '../tail/loss.ts';
import { findStart, requirePosition } from '../tail/start.ts';
import { throwIfAborted, waitOrAbort } from '../util/abort.ts';
import { wholeWithin } from '../util/bounds.ts';
import type { Appended, AppendDemands } from '../log/lane.ts';
import { checkExpectedOffset, checkIdempotencyKey, dueTime } from '../log/delivery.ts';
import type { Core } from './core.ts';
import { presenceOf, type StreamPresence } from './stream-presence.ts';
import type {
  AppendOptions,
  BroadcastOptions,
  PublishOptions,
  ReadOptions,
  SubscribeOptions,
} from './call-options.ts';

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
  /**
   * Writes one event now and gives its offset, once it is committed and flushed.
   *
   * @throws SluiceError payload_invalid (with `issues`, if the stream's schema refuses it), and others
   */
  append(data: In, options?: AppendOptions): Promise<{ offset: bigint; cursor: string; duplicate: boolean }>;
  /**
   * Writes 1 to 10 000 events at consecutive offsets, all or none. What an event has itself wins over the options.
   *
   * @throws what append does, with the `index` of the event; payload_too_large for too many; RangeError for none
   */
  appendMany(
    events: readonly NewEvent<In>[],
    options?: AppendOptions,
  ): Promise<{ first: bigint; last: bigint; cursor: string; duplicate: boolean }>;
  /**
   * Writes one event in the caller's transaction (`tx`); it appears after the commit, and never after a rollback. The id
   * is for logs, and no key.
   *
   * @throws SluiceError tx_required (`tx` is not inside a transaction), payload_invalid, payload_too_large, name_invalid,
   *   and others; TypeError for a `tx` that is a pool or no executor
   * @example
   * await client.query('begin');
   * await orders.publish({ id: 1 }, { tx: client });
   * await client.query('commit');
   */
  publish(data: In, options?: PublishOptions): Promise<{ id: string }>;
  /** Publishes 1 to 10 000 events, which keep their order and stand together. @throws what publish and appendMany do */
  publishMany(events: readonly NewEvent<In>[], options?: PublishOptions): Promise<{ ids: string[] }>;
  /**
   * One page of events. With `validateOnRead` the page ends before an event that does not fit the schema; only if that
   * event is the first, it throws.
   *
   * @throws SluiceError payload_invalid (with `issues`, `offset`, and the `cursor` to go on after it), and others
   */
  read(options?: ReadOptions): Promise<ReadResult<Out>>;
  /**
   * Replay, then live; exactly once and in order. With `validateOnRead` an event that does not fit the schema ends the
   * iteration with `payload_invalid`; subscribe again after the error's `cursor` to go on without it.
   */
  subscribe(options?: SubscribeOptions): StreamSubscription<Out>;
  /**
   * Sends a message to whoever is connected to the stream over HTTP, on every process, and stores nothing: it has no
   * offset and no id, and whoever connects later never sees it. Messages of one process keep their order. At most 64 KiB
   * of JSON. A stream that does not exist has nobody connected. `visibleTo` and `exclude` as of an event.
   *
   * @throws SluiceError payload_too_large, payload_invalid, name_invalid (the type, the label, the connection), overloaded,
   *   and others
   * @example
   * await room.broadcast({ user: 'ann' }, { type: 'typing' });
   */
  broadcast(data: In, options?: BroadcastOptions): Promise<void>;
  /** Who is connected. */
  readonly presence: StreamPresence;
  /**
   * Consumers that share the work of the stream; no I/O. The group is made when it is first used, and begins at `from`.
   *
   * @throws SluiceError name_invalid, cursor_invalid; TypeError, RangeError for options
   */
  group(name: string, options?: GroupOptions): Group<Out>;
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
  readonly #admission: Admission | undefined;
  readonly #decode: Decode<Out>;

  /** @throws TypeError */
  constructor(core: Core, name: string, options: PayloadOptions<In, Out>) {
    checkPayloadOptions(options);
    const { schema, validateOnRead = false } = options;
    this.#core = core;
    this.name = name;
    this.#admission = schema && admissionTo(core, name, schema);
    this.#decode = schema && validateOnRead ? decodeWith<Out>(schema) : toStreamEvent;
  }

  async append(
    data: In,
    options: AppendOptions = {},
  ): Promise<{ offset: bigint; cursor: string; duplicate: boolean }> {
    const { type, key, headers, visibleTo, exclude, signal } = options;
    throwIfAborted(signal);
    const event = encodeEvent({ data, type, key, headers, visibleTo, exclude }, this.#core.limits);
    const draft = { payloads: [data], encoded: [event], inBatch: false };
    const { incarnation, first, last, lastTag, duplicate } = await this.#append(draft, options);
    return { offset: first, cursor: cursorOf(incarnation, last, lastTag), duplicate };
  }

  async appendMany(
    events: readonly NewEvent<In>[],
    options: AppendOptions = {},
  ): Promise<{ first: bigint; last: bigint; cursor: string; duplicate: boolean }> {
    throwIfAborted(options.signal);
    const draft = this.#draft(events, options);
    const { incarnation, first, last, lastTag, duplicate } = await this.#append(draft, options);
    return { first, last, cursor: cursorOf(incarnation, last, lastTag), duplicate };
  }

  async publish(data: In, options: PublishOptions = {}): Promise<{ id: string }> {
    const { type, key, headers, visibleTo, exclude, signal } = options;
    throwIfAborted(signal);
    const event = encodeEvent({ data, type, key, headers, visibleTo, exclude }, this.#core.limits);
    const draft = { payloads: [data], encoded: [event], inBatch: false };
    const [id] = await waitOrAbort(this.#publish(draft, options), signal);
    return { id: id ?? '' };
  }

  async publishMany(
    events: readonly NewEvent<In>[],
    options: PublishOptions = {},
  ): Promise<{ ids: string[] }> {
    throwIfAborted(options.signal);
    return { ids: await waitOrAbort(this.#publish(this.#draft(events, options), options), options.signal) };
  }

  async read(options: ReadOptions = {}): Promise<ReadResult<Out>> {
    const { after = 'start', limit = MAX_PAGE_EVENTS, signal } = options;
    throwIfAborted(signal);
    wholeWithin('limit', limit, [1, MAX_PAGE_EVENTS]);
    const position = requirePosition(after);
    const start = await waitOrAbort(findStart(this.#core.database, this.name, position, limit), signal);
    if (start.kind === 'lost') throw toError(start.loss);
    const { state, place, events: records } = start;
    const identity = { name: this.name, incarnation: state.incarnation };
    const events = await decodePage(this.#decode, identity, { records, signal });
    const last: CursorPosition = { ...place, ...lastOf(records.slice(0, events.length)) };
    return {
      events,
      cursor: encodePosition(last),
      head: state.head,
      oldest: state.trimmedTo + 1n,
      upToDate: last.offset >= state.head,
    };
  }

  subscribe(options: SubscribeOptions = {}): StreamSubscription<Out> {
    const { after = 'start', signal } = options;
    const position = requirePosition(after);
    const decode = this.#decode;
    return new EventIterator<Out>(this.#core.tails, { stream: this.name, after: position, signal, decode });
  }

  async broadcast(data: In, options: BroadcastOptions = {}): Promise<void> {
    const { type, visibleTo, exclude, signal } = options;
    throwIfAborted(signal);
    const { broadcaster } = this.#core;
    const limits = { ...this.#core.limits, maxEventBytes: MAX_EPHEMERAL_BYTES };
    const event = encodeEvent({ data, type, visibleTo, exclude }, limits);
    const draft = { payloads: [data], encoded: [event], inBatch: false };
    const send = (): Promise<void> => broadcaster.send({ ...event, stream: this.name });
    await waitOrAbort(this.#admission ? this.#admission.admit({ ...draft, signal }, send) : send(), signal);
  }

  get presence(): StreamPresence {
    return presenceOf(this.#core.database, this.name);
  }

  group(name: string, options: GroupOptions = {}): Group<Out> {
    return new GroupHandle<Out>(this.#core.groups, { stream: this.name, group: name }, this.#decode, options);
  }

  async trim(options: TrimOptions = {}): Promise<Trimmed> {
    const { database, settings } = this.#core;
    return trimStream(database, this.name, options, settings.appendTimeoutMs);
  }

  async info(): Promise<StreamDetails | null> {
    return streamInfo(this.#core.database, this.name);
  }

  #draft(events: readonly NewEvent<In>[], options: AppendOptions): Draft {
    requireBatch(events);
    const encoded = encodeBatch(withDefaults(events, options), this.#core.limits);
    return { payloads: events.map(({ data }) => data), encoded, inBatch: true };
  }

  #append(draft: Draft, { idempotencyKey, expectedOffset, signal }: AppendOptions): Promise<Appended> {
    checkIdempotencyKey(idempotencyKey);
    checkExpectedOffset(expectedOffset);
    const demands: AppendDemands = { idempotencyKey, expectedOffset };
    const send = (): Promise<Appended> => this.#core.coalescer.append(this.name, draft.encoded, demands);
    return waitOrAbort(this.#admission ? this.#admission.admit({ ...draft, signal }, send) : send(), signal);
  }

  #publish(
    draft: Draft,
    { tx, idempotencyKey, deliverAt, delayMs, signal }: PublishOptions,
  ): Promise<string[]> {
    checkIdempotencyKey(idempotencyKey);
    const { autoCreate, maxDelayMs } = this.#core.settings;
    const due = dueTime({ deliverAt, delayMs }, maxDelayMs);
    const call = { tx, autoCreate, idempotencyKey, due };
    const send = (): Promise<string[]> => publishEvents(this.#core.database, this.name, draft.encoded, call);
    // Without a detour: what need not wait is sent in this tick, before any statement that the caller sends next.
    return this.#admission ? this.#admission.admit({ ...draft, tx, signal }, send) : send();
  }
}

type Draft = Omit<Arrival, 'tx' | 'signal'>;

const admissionTo = (core: Core, stream: string, schema: StandardSchemaV1): Admission =>
  new Admission({ stream, schema, budget: core.undecided, waitMs: core.settings.appendTimeoutMs });

const lastOf = (
  events: readonly { offset: bigint; tag: number }[],
): { offset: bigint; tag: number } | undefined => {
  const last = events.at(-1);
  return last && { offset: last.offset, tag: last.tag };
};

const requireBatch = (events: readonly unknown[]): void => {
  if (!Array.isArray(events)) throw new TypeError('events must be an array of { data }');
  const index = events.findIndex((event) => typeof event !== 'object' || event === null);
  if (index !== -1) throw new TypeError(`events[${index}] is ${typeof events[index]}; give { data }`);
};

const withDefaults = (events: readonly NewEvent[], options: AppendOptions): NewEvent[] =>
  events.map((event) => ({
    data: event.data,
    type: event.type ?? options.type,
    key: event.key ?? options.key,
    headers: event.headers ?? options.headers,
    visibleTo: event.visibleTo === undefined ? options.visibleTo : event.visibleTo,
    exclude: event.exclude ?? options.exclude,
  }));
