// All tails of the process: one per stream with subscribers, started on first use, closed some time after the last
// subscriber left. Wakes them on notifications, on every new listener session, and when a poll finds them behind.
import type { Database } from '../db/database.ts';
import type { Listener } from '../listen/listener.ts';
import type { EventRecord } from '../log/event.ts';
import type { StreamState } from '../log/locate.ts';
import { decodeHeads } from '../log/reader-bell.ts';
import type { CursorPosition } from '../protocol/cursor.ts';
import type { ParsedPosition } from '../protocol/position.ts';
import { SluiceError } from '../util/errors.ts';
import type { LoggerLike } from '../util/logger.ts';
import { Beginnings } from './beginnings.ts';
import { Pages } from './pages.ts';
import type { Replica } from './replica.ts';
import type { ShelfOptions } from './shelf.ts';
import { findStart, type Start } from './start.ts';
import { findStarts, startsFromMemory, type Resume } from './starts.ts';
import type { Sink } from './subscriber.ts';
import { Subscription, type Opened, type Reopened } from './subscription.ts';
import { deleted, Tail } from './tail.ts';
import type { WindowLimits } from './window.ts';

/** Streams asked about in one statement of the poll. */
const POLL_CHUNK = 1000;

export interface TailsOptions {
  readonly database: Database;
  readonly listener: Listener;
  readonly logger: LoggerLike;
  readonly window: WindowLimits;
  /** Catch-up reads at a time. */
  readonly maxReads: number;
  /** What was read by one who catches up, for the others. */
  readonly shelf: ShelfOptions;
  /** Where to look first for what a reader far behind lacks. */
  readonly replica?: Replica | undefined;
  /** A tail without subscribers is closed after this long, in milliseconds. */
  readonly idleMs: number;
}

export class Tails {
  readonly #options: TailsOptions;
  readonly #pages: Pages;
  readonly #beginnings: Beginnings;
  readonly #closing = new AbortController();
  readonly #tails = new Map<bigint, Tail>();
  readonly #timers = new Map<bigint, NodeJS.Timeout>();
  #unhear: (() => void) | undefined;
  #hints = 0; // heard so far: a tail that was opened meanwhile may have missed its own

  constructor(options: TailsOptions) {
    this.#options = options;
    const { database, maxReads, shelf, replica } = options;
    this.#pages = new Pages(database, { maxReads, shelf, replica, signal: this.#closing.signal });
    this.#beginnings = new Beginnings(this.#pages, (...place) => findStart(database, ...place, 0));
  }

  /**
   * Subscribes a sink to a stream by name. Where it starts is fixed when this resolves.
   *
   * @param signal aborted: it is not looked for any more once its turn has come
   * @throws SluiceError stream_not_found, cursor_invalid, closed
   */
  async subscribe(
    stream: string,
    after: ParsedPosition,
    sink: Sink,
    signal?: AbortSignal,
  ): Promise<Subscription> {
    await this.#listen(); // before the first read: a hint sent after that read is then heard
    const hints = this.#hints;
    const start = await this.#find(stream, after, signal);
    this.#requireOpen();
    if (start.kind === 'lost')
      return new Subscription(this, { stream, sink, opened: { kind: 'lost', loss: start.loss } });
    const { state, place } = start;
    const tail = this.#tailOf(stream, state, hints);
    const opened: Opened = { kind: 'ok', place, head: state.head, oldest: state.trimmedTo + 1n };
    return new Subscription(this, { stream, sink, opened }, tail);
  }

  /** Where each of several streams starts, of one cursor for all. */
  starts(
    streams: readonly string[],
    resume: Resume,
    signal?: AbortSignal,
  ): Promise<ReadonlyMap<string, ParsedPosition>> {
    const nameOf = (incarnation: bigint): string | undefined => this.#tails.get(incarnation)?.identity.name;
    const known = startsFromMemory(streams, resume, nameOf);
    return known
      ? Promise.resolve(known)
      : this.#pages.start(async () => findStarts(this.#options.database, streams, resume), signal);
  }

  /** A stream may have gone on to `head`. */
  wake(incarnation: bigint, head: bigint): void {
    this.#hints += 1;
    const tail = this.#tails.get(incarnation);
    if (tail && tail.last.offset < head) tail.wake();
  }

  /** Events this process appended to the stream, right after `before`. */
  feed(stream: string, before: CursorPosition, records: () => readonly EventRecord[]): void {
    this.#hints += 1;
    const tail = this.#tails.get(before.incarnation);
    if (tail?.identity.name === stream) tail.feed(before, records);
    else tail?.wake();
  }

  /** Asks the database for the heads of all active streams and wakes the tails that differ; returns how many did. */
  async check(): Promise<number> {
    const { database } = this.#options;
    const incarnations = [...this.#tails.keys()];
    let behind = 0;
    for (let from = 0; from < incarnations.length; from += POLL_CHUNK) {
      const rows = await database.rows<[string, string | null, number | null]>(
        `select w.id::text, coalesce(h."offset", s.trimmed_to)::text, coalesce(h.tag, s.trimmed_tag)
         from unnest($1::bigint[]) w (id)
         left join ${database.names.quoted}.streams s on s.id = w.id
         left join lateral (
           select "offset", tag from ${database.names.quoted}.events
           where stream_id = s.id and "offset" > s.trimmed_to order by "offset" desc limit 1
         ) h on true`,
        [incarnations.slice(from, from + POLL_CHUNK).map(String)],
        'sluice_heads',
      );
      for (const [id, head, tag] of rows) {
        const tail = this.#tails.get(BigInt(id));
        if (!tail || (head === String(tail.last.offset) && tag === tail.last.tag)) continue;
        behind += 1;
        tail.wake();
      }
    }
    return behind;
  }

  /** Ends every subscriber. */
  async close(): Promise<void> {
    this.#closing.abort();
    for (const tail of this.#tails.values()) tail.close(undefined);
    this.#unhear?.();
  }

  /** The tail of a stream whose reader goes on from a place; or what is lost again. */
  async reopen(stream: string, place: CursorPosition): Promise<Reopened> {
    const hints = this.#hints;
    const at = { kind: 'cursor', positions: [place] } as const;
    const start = await this.#pages.start(async () => findStart(this.#options.database, stream, at, 0));
    this.#requireOpen();
    return start.kind === 'lost'
      ? { kind: 'lost', loss: start.loss }
      : { kind: 'ok', place: start.place, tail: this.#tailOf(stream, start.state, hints) };
  }

  /** A subscriber has left the tail. */
  left(tail: Tail): void {
    this.#closeIfIdle(tail);
  }

  // Of thousands that come back at once, few ask the database where they stand: the page that tells is what they read next.
  async #find(stream: string, after: ParsedPosition, signal: AbortSignal | undefined): Promise<Start> {
    if (after.kind !== 'cursor') return this.#beginnings.find(stream, after, signal);
    const place = placeOf(after);
    const tail = this.#tailAt(stream, place);
    if (place && tail?.holds(place) === false) await tail.near(place, signal);
    const start =
      this.#resumeFromMemory(stream, place) ??
      (await this.#pages.start(async () => {
        const hasStarted = !tail && this.#tailAt(stream, place); // while this one waited for its turn
        return hasStarted ? undefined : findStart(this.#options.database, stream, after, 0);
      }, signal));
    return start ?? this.#find(stream, after, signal);
  }

  #tailAt(stream: string, place: CursorPosition | undefined): Tail | undefined {
    const tail = place && this.#tails.get(place.incarnation);
    return tail?.identity.name === stream ? tail : undefined;
  }

  // A client that comes back to what is in memory costs no query.
  #resumeFromMemory(stream: string, place: CursorPosition | undefined): Start | undefined {
    const tail = this.#tailAt(stream, place);
    if (!place || !tail?.holds(place)) return undefined;
    const { trimmedTo, last } = tail;
    const { incarnation, offset, tag } = last;
    const state = { incarnation, trimmedTo, trimmedTag: 0, closed: false, head: offset, headTag: tag };
    return { kind: 'ok', state, place, events: [] };
  }

  // `hints`: how many had been heard before the state was read. Any heard since found no tail to wake.
  #tailOf(name: string, state: StreamState, hints: number): Tail {
    const { incarnation, head, headTag } = state;
    this.#cancelTimer(incarnation);
    const known = this.#tails.get(incarnation);
    if (known?.identity.name === name) return known;
    known?.close(deleted(known.identity.name)); // its number has been given to this one: see PageRequest
    const { window, logger } = this.#options;
    const onClose = (): void => {
      this.#cancelTimer(incarnation);
      this.#tails.delete(incarnation);
    };
    const tail = new Tail({
      identity: { name, incarnation },
      head: { incarnation, offset: head, tag: headTag },
      window,
      pages: this.#pages,
      logger,
      onClose,
    });
    tail.trimmedTo = state.trimmedTo;
    this.#tails.set(incarnation, tail);
    if (hints !== this.#hints) tail.wake();
    return tail;
  }

  #closeIfIdle(tail: Tail): void {
    const { incarnation } = tail.identity;
    if (tail.subscribers > 0 || this.#closing.signal.aborted) return;
    this.#cancelTimer(incarnation);
    const timer = setTimeout(() => {
      this.#timers.delete(incarnation);
      if (tail.subscribers === 0) tail.close(undefined);
    }, this.#options.idleMs);
    timer.unref();
    this.#timers.set(incarnation, timer);
  }

  #cancelTimer(incarnation: bigint): void {
    clearTimeout(this.#timers.get(incarnation));
    this.#timers.delete(incarnation);
  }

  async #listen(): Promise<void> {
    this.#requireOpen();
    const { listener, database } = this.#options;
    const channel = database.names.readersChannel;
    this.#unhear ??= listener.hear(channel, {
      message: ({ payload }) => this.#hint(payload),
      gap: () => this.#wakeAll(),
    });
    await listener.inForceIfConnected(channel); // without a session the poll wakes readers, and the next one does
  }

  // Never believed, whatever it says: it only picks the tails that read. A head in it could be forged or stale.
  #hint(payload: string): void {
    const heads = decodeHeads(payload);
    if (!heads) return this.#wakeAll();
    for (const { incarnation, head } of heads) this.wake(incarnation, head);
  }

  #wakeAll(): void {
    this.#hints += 1;
    for (const tail of this.#tails.values()) tail.wake();
  }

  #requireOpen(): void {
    if (this.#closing.signal.aborted) throw new SluiceError('closed', 'this Sluice is closed');
  }
}

const placeOf = (after: ParsedPosition): CursorPosition | undefined =>
  after.kind === 'cursor' && after.positions.length === 1 ? after.positions[0] : undefined;
