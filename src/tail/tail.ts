// The tail of one stream in this process: the last position known, a window of recent events, and the subscribers.
// Reads once per wake, whoever listens. Every subscriber is moved by one of two hands: `#broadcast`, if it is live, or
// its own `#pump` while it is behind; it changes hands only in synchronous steps, so it is never in both or in neither.
import type { EventRecord, StreamIdentity } from '../log/event.ts';
import { locate, type StreamState } from '../log/locate.ts';
import type { Page } from '../log/read.ts';
import type { CursorPosition } from '../protocol/cursor.ts';
import { report } from '../util/diagnostics.ts';
import { asError, SluiceError } from '../util/errors.ts';
import type { LoggerLike } from '../util/logger.ts';
import { Round } from '../util/round.ts';
import { Batch, Entry } from './entry.ts';
import { lossOf } from './loss.ts';
import { goesOn, type Behind } from './nearby.ts';
import type { Pages } from './pages.ts';
import { nextStep, type Step } from './splice.ts';
import { inSteps } from './steps.ts';
import type { Subscriber } from './subscriber.ts';
import { Window, type WindowLimits } from './window.ts';

export interface TailOptions {
  readonly identity: StreamIdentity;
  /** The stream's last event when the tail starts. */
  readonly head: CursorPosition;
  readonly window: WindowLimits;
  readonly pages: Pick<Pages, 'read' | 'readLive' | 'catchUp' | 'near' | 'holds' | 'forget'>;
  readonly logger: LoggerLike;
  /** How those who are live are written to. */
  readonly round?: Round;
  /** The tail has closed, by itself or by its owner. */
  readonly onClose: () => void;
}

export class Tail {
  readonly identity: StreamIdentity;
  /** The last offset that is gone, as of the last read. */
  trimmedTo = 0n;
  readonly #pages: Pick<Pages, 'read' | 'readLive' | 'catchUp' | 'near' | 'holds' | 'forget'>;
  readonly #logger: LoggerLike;
  readonly #window: Window;
  readonly #subscribers = new Set<Subscriber>();
  readonly #live = new Set<Subscriber>();
  readonly #batches = new WeakMap<Page, Batch | undefined>(); // a page that many read is encoded once
  #last: CursorPosition;
  readonly #onClose: () => void;
  #epoch = 0; // counts the histories this tail has seen; see #restart
  #dirty = false;
  #reading = false;
  readonly #round: Round; // nothing new is accepted before all who are live have what was
  #closed = false;

  constructor({ identity, head, window, pages, logger, round, onClose }: TailOptions) {
    this.#onClose = onClose;
    this.identity = identity;
    this.#last = head;
    this.#pages = pages;
    this.#logger = logger;
    this.#window = new Window(window);
    this.#round = round ?? new Round();
    report('sluice:tail.started', () => ({ stream: identity.name, head: head.offset }));
  }

  /** The last event this tail has seen. */
  get last(): CursorPosition {
    return this.#last;
  }

  /** Whether a reader that stands here can be served without a read. */
  holds(standing: CursorPosition): boolean {
    const { incarnation, offset, tag } = standing;
    if (incarnation !== this.identity.incarnation) return false;
    const isLast = offset === this.#last.offset && tag === this.#last.tag;
    if (isLast || this.#window.at(offset)?.record.tag === tag) return true;
    return this.#isBehind(standing) && this.#pages.holds(this.identity, this.#reader(standing));
  }

  /** Reads what a reader that stands here lacks, if there are others who may lack it too: `holds` may know then. */
  async near(standing: CursorPosition, signal?: AbortSignal): Promise<void> {
    if (this.#subscribers.size === 0 || !this.#isBehind(standing)) return;
    await this.#pages.near(this.identity, { ...this.#reader(standing), signal });
  }

  get subscribers(): number {
    return this.#subscribers.size;
  }

  /** Takes the subscriber in at its position; delivery begins with `resume`. */
  attach(subscriber: Subscriber): void {
    subscriber.epoch = this.#epoch;
    this.#round.came();
    this.#subscribers.add(subscriber);
  }

  detach(subscriber: Subscriber): void {
    subscriber.closed = true;
    this.#subscribers.delete(subscriber);
    this.#live.delete(subscriber);
  }

  /** The subscriber's sink takes more again. */
  resume(subscriber: Subscriber): void {
    subscriber.ready = true;
    if (!subscriber.pumping && !subscriber.closed && !this.#closed) void this.#pump(subscriber);
  }

  /** Something may be new: reads on until a page brings nothing more. */
  wake(): void {
    this.#dirty = true;
    if (!this.#closed && !this.#reading) void this.#read();
  }

  /** Events this process has just appended: taken as they are when they follow on, else read like any others. */
  feed(before: CursorPosition, records: () => readonly EventRecord[]): void {
    if (this.#closed) return;
    const follows = before.offset === this.#last.offset && before.tag === this.#last.tag;
    if (!follows || this.#round.underWay()) return this.wake();
    for (const step of inSteps(records())) {
      if (this.#round.underWay()) return this.wake();
      this.#accept(step);
    }
  }

  /** Ends all subscribers. */
  close(error: Error | undefined): void {
    if (this.#closed) return;
    this.#closed = true;
    report('sluice:tail.closed', () => ({ stream: this.identity.name }));
    for (const subscriber of this.#subscribers) {
      this.detach(subscriber);
      subscriber.sink.ended(error);
    }
    this.#window.clear();
    this.#pages.forget(this.identity);
    this.#onClose();
  }

  async #read(): Promise<void> {
    this.#reading = true;
    while (this.#dirty && !this.#closed) {
      while (this.#round.underWay()) await this.#round.underWay();
      this.#dirty = false;
      const from = this.#last;
      try {
        const page = await this.#pages.readLive(this.identity, from.offset);
        while (this.#round.underWay()) await this.#round.underWay(); // of what it was fed meanwhile
        this.#take(from, page);
      } catch (error) {
        this.#logger.error(
          { error, stream: this.identity.name },
          'a stream could not be read; it is tried again when woken',
        );
        report('sluice:background.failed', () => ({ where: 'tail', error }));
      }
    }
    this.#reading = false;
  }

  // `from` is where the tail stood when it asked; it may have been fed since.
  #take(from: CursorPosition, page: Page | undefined): void {
    if (this.#closed) return;
    if (!page) return this.close(deleted(this.identity.name));
    this.trimmedTo = page.state.trimmedTo;
    const located = locate(page.state, from, page.rows);
    if (located.kind !== 'ok') return this.#restart(page.state);
    const here = located.events[Number(this.#last.offset - from.offset) - 1];
    if (here && here.tag !== this.#last.tag) {
      this.#dirty = true; // what it was fed and what it read are of two histories: it asks again from where it stands
      return;
    }
    const fresh = located.events.filter(({ offset }) => offset > this.#last.offset);
    if (fresh[0]?.offset === this.#last.offset + 1n) this.#accept(fresh);
    if (this.#last.offset < page.state.head) this.#dirty = true;
  }

  // The tail's own history is gone: it stands at the new head. No subscriber may join it, or be served from memory,
  // before a read of its own has said whether its position still exists: an offset alone would match another event.
  #restart(state: StreamState): void {
    this.#window.clear();
    this.#pages.forget(this.identity);
    this.#last = { incarnation: state.incarnation, offset: state.head, tag: state.headTag };
    this.#epoch += 1;
    this.#live.clear();
    for (const subscriber of this.#subscribers) {
      if (!subscriber.pumping && subscriber.ready) void this.#pump(subscriber);
    }
  }

  #accept(records: readonly EventRecord[]): void {
    const entries = records.map((record) => new Entry(this.identity, record));
    for (const entry of entries) this.#window.push(entry);
    const batch = new Batch(entries, { live: true });
    const { offset, tag } = batch.last.record;
    this.#last = { incarnation: this.#last.incarnation, offset, tag };
    report('sluice:tail.woken', () => ({ stream: this.identity.name, head: offset, events: entries.length }));
    this.#round.begin(this.#live, (subscriber) => this.#give(subscriber, batch));
  }

  #give(subscriber: Subscriber, batch: Batch): void {
    const { pumping, ready, position } = subscriber;
    // It had read a page newer than the tail: what it stands on there must be what the tail has got now.
    const isOther = (batch.at(position.offset)?.record.tag ?? position.tag) !== position.tag;
    const isBehind = pumping || !ready; // since this round began
    if (!isOther && !isBehind) subscriber.deliver(batch);
    if (isOther || isBehind || !subscriber.ready) this.#live.delete(subscriber);
    if (isOther && !isBehind) void this.#pump(subscriber);
  }

  // Moves one subscriber until it is live or its sink is full.
  async #pump(subscriber: Subscriber): Promise<void> {
    subscriber.pumping = true;
    try {
      while (subscriber.ready && !subscriber.closed && !this.#closed) {
        const { offset } = subscriber.position;
        const step = this.#stepFor(subscriber);
        if (step === 'live') {
          this.#live.add(subscriber);
          if (offset > this.#last.offset) this.wake(); // it read a page newer than the tail
          return;
        }
        if (step === 'window') {
          subscriber.deliver(this.#window.after(offset));
          continue;
        }
        const epoch = this.#epoch;
        this.#serve(
          subscriber,
          step === 'primary'
            ? await this.#pages.read(this.identity, offset)
            : await this.#pages.catchUp(this.identity, this.#reader(subscriber.position), {
                alone: this.#subscribers.size === 1,
              }),
        );
        subscriber.epoch = epoch;
      }
    } catch (error) {
      this.detach(subscriber);
      subscriber.sink.ended(asError(error));
    } finally {
      subscriber.pumping = false;
    }
  }

  // `primary`: only there can be told whether the position still exists.
  #stepFor({ position, epoch }: Subscriber): Step | 'primary' {
    if (epoch !== this.#epoch || position.offset < this.trimmedTo) return 'primary';
    const here =
      position.offset === this.#last.offset ? this.#last : this.#window.at(position.offset)?.record;
    if (here && here.tag !== position.tag) {
      this.wake(); // one of the two stands on another history: both ask the primary
      return 'primary';
    }
    return nextStep(position.offset, { last: this.#last.offset, windowFirst: this.#window.first?.offset });
  }

  #serve(subscriber: Subscriber, page: Page | undefined): void {
    if (subscriber.closed || this.#closed) return;
    if (!page) return this.close(deleted(this.identity.name));
    const { position } = subscriber;
    const batch = this.#batchOf(page);
    if (page.state.trimmedTo > this.trimmedTo) this.trimmedTo = page.state.trimmedTo;
    if (batch && goesOn(page, position)) return subscriber.deliver(batch);
    const located = locate(page.state, position, page.rows); // not shared, so it begins there
    if (located.kind !== 'ok') {
      subscriber.ready = false;
      this.#live.delete(subscriber);
      subscriber.sink.lost(lossOf(this.identity.name, position.offset, page.state, located));
      return;
    }
    if (batch && located.events.length > 0) return subscriber.deliver(batch);
    if (page.state.head < this.#last.offset) this.wake(); // the tail is ahead of the database: its history is gone
  }

  /** Undefined: the page has no events, or not one after the other. */
  #batchOf(page: Page): Batch | undefined {
    if (this.#batches.has(page)) return this.#batches.get(page);
    const { rows } = page;
    const isDense = rows.every(({ offset }, index) => offset === (rows[0]?.offset ?? 0n) + BigInt(index));
    const batch =
      rows.length > 0 && isDense
        ? new Batch(rows.map((record) => new Entry(this.identity, record)))
        : undefined;
    this.#batches.set(page, batch);
    return batch;
  }

  #reader(standing: CursorPosition): Behind {
    return { standing, upTo: () => this.#last.offset };
  }

  /** Whether the place is in the part of the stream that the tail knows, and not at its end. */
  #isBehind({ incarnation, offset }: CursorPosition): boolean {
    const isOurs = incarnation === this.identity.incarnation && !this.#closed;
    return isOurs && offset >= this.trimmedTo && offset < this.#last.offset;
  }
}

export const deleted = (name: string): SluiceError =>
  new SluiceError('stream_not_found', `stream ${JSON.stringify(name)} was deleted`);
