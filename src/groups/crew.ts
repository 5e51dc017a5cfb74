// The handlers of one consumer at work: begins what is queued, as much at a time as it may, and records what has become of
// each event with the lease that the event came under.
import type { Database } from '../db/database.ts';
import type { Decode } from '../log/decode.ts';
import { backoffMs, type Backoff } from '../util/backoff.ts';
import { deferred, type Deferred } from '../util/deferred.ts';
import { random } from '../util/random.ts';
import { batchContext, eventContext, type BatchHandler, type EventHandler } from './context.ts';
import { decodeEach } from './decode-each.ts';
import { errorText } from './error-text.ts';
import type { HeldLease } from './held-lease.ts';
import type { GroupRef } from './store.ts';
import { Unit, type Item, type Outcome } from './unit.ts';
import type { Load } from './window.ts';
import { WorkQueue } from './work-queue.ts';

export type Handler<T> =
  | { readonly kind: 'event'; readonly handle: EventHandler<T> }
  | { readonly kind: 'batch'; readonly handle: BatchHandler<T>; readonly maxBatch: number };

export interface CrewOptions<T> {
  readonly database: Database;
  readonly group: GroupRef;
  readonly handler: Handler<T>;
  readonly decode: Decode<T>;
  readonly concurrency: number;
  readonly timeoutMs: number | undefined;
  readonly backoff: Backoff;
  /**
   * An event or a batch was handled, or not, as was recorded with its lease. In a keyed group, what stood behind those
   * that failed is not begun, and nothing is recorded of it yet.
   */
  onEnd(unit: Unit, outcome: Outcome, behind: readonly Item[]): void;
}

export class Crew<T> {
  readonly #options: CrewOptions<T>;
  readonly #queue: WorkQueue<Item>;
  readonly #running = new Set<Unit>();
  #alone = false;
  #idle: Deferred<void> | undefined;

  constructor(options: CrewOptions<T>) {
    this.#options = options;
    this.#queue = new WorkQueue(options.group.partitions !== null);
  }

  /** Handlers that could begin now, if there were something to do. */
  get free(): number {
    return this.#alone ? 0 : this.#options.concurrency - this.#running.size;
  }

  /** What it has and could begin, where a handler takes up to `unit` events. */
  load(unit: number): Load {
    let inHand = 0;
    for (const { items } of this.#running) inHand += items.length;
    return { queued: this.#queue.size, inHand, free: this.free * unit };
  }

  add(items: readonly Item[]): void {
    for (const item of items) this.#queue.add(item);
  }

  /** Begins what may be begun. */
  begin(): void {
    while (this.free > 0) {
      const next = this.#queue.first;
      if (!next || (next.alone && this.#running.size > 0)) return;
      if (!next.lease.isOurs) {
        next.lease.expire(); // which takes what is queued of it away
        continue;
      }
      const { handler } = this.#options;
      this.#start(this.#queue.take(handler.kind === 'event' ? 1 : handler.maxBatch));
    }
  }

  /** Keys of which an event has been in the hands of a handler for so long, in milliseconds. */
  keysInHand(sinceMs: number): string[] {
    const before = performance.now() - sinceMs;
    return [...this.#running]
      .filter(({ beganAt }) => beganAt <= before)
      .flatMap(({ items }) => items.map(({ key }) => key))
      .filter((key) => key !== null);
  }

  /** Takes back what stands behind others of its key. */
  removeBehind(): Item[] {
    return this.#queue.removeBehind();
  }

  /** A lease is lost: nothing more of it is begun, and handlers are told. Returns what stood behind it, of others. */
  lost(lease: HeldLease, reason: unknown): Item[] {
    for (const unit of this.#running) if (unit.lease === lease) unit.abort(reason);
    return this.#queue.remove(lease).filter((item) => item.lease !== lease);
  }

  /** Takes back what was not begun. */
  remove(): Item[] {
    return this.#queue.remove();
  }

  /** Resolves when no handler runs. */
  async idle(): Promise<void> {
    if (this.#running.size === 0) return;
    this.#idle ??= deferred();
    await this.#idle.promise;
  }

  /** Begins nothing until then. `until` must not reject. */
  async rest(until: Promise<unknown>): Promise<void> {
    this.#alone = true;
    await until;
    this.#alone = false;
  }

  /** Waits for none of them any longer. */
  abandon(reason: unknown): void {
    for (const unit of this.#running) unit.abandon(reason);
  }

  #start(items: readonly Item[]): void {
    const { database, timeoutMs, handler } = this.#options;
    const unit = new Unit(database, items, (...end) => this.#ended(...end));
    this.#running.add(unit);
    this.#alone = unit.isAlone;
    unit.run(
      handler.kind === 'event'
        ? this.#eventCall(unit, handler.handle)
        : this.#batchCall(unit, handler.handle),
      timeoutMs,
    );
  }

  #eventCall(unit: Unit, handle: EventHandler<T>): () => Promise<void> {
    const { decode, group } = this.#options;
    return async () => {
      const { record, attempt } = unit.items[0] as Item;
      const event = decode(group.stream, record);
      await handle(event instanceof Promise ? await event : event, eventContext(unit, attempt));
    };
  }

  #batchCall(unit: Unit, handle: BatchHandler<T>): () => Promise<void> {
    const { decode, group } = this.#options;
    return async () => {
      const { events, failed } = await decodeEach(decode, group.stream, unit.items);
      for (const { offset, error } of failed) unit.fail(offset, error, undefined);
      if (events.length > 0) await handle(events, batchContext(unit));
    };
  }

  #ended(unit: Unit, outcome: Outcome): void {
    this.#running.delete(unit);
    this.#alone = false;
    const behind = this.#options.group.partitions === null ? [] : this.#finish(unit, outcome);
    this.#record(unit, outcome);
    this.#options.onEnd(unit, outcome, behind);
    if (this.#running.size === 0) this.#idle?.resolve();
    if (this.#running.size === 0) this.#idle = undefined;
  }

  /** What stood behind the events of a keyed group, and must not be begun. */
  #finish(unit: Unit, outcome: Outcome): Item[] {
    const failed = new Set(outcome.kind === 'done' ? unit.failures.keys() : unit.offsets);
    // What a lost lease had is handed out again, and so may be what somebody's transaction is to acknowledge: what stands
    // behind it must not overtake that.
    const isSure = unit.lease.isOurs && !unit.isPromised;
    return unit.items.flatMap((item) => this.#queue.finish(item, isSure && !failed.has(item.record.offset)));
  }

  #record(unit: Unit, outcome: Outcome): void {
    const { lease, offsets, acknowledgement, failures } = unit;
    const { isGiven, isInDoubt: doubt } = acknowledgement;
    if (isGiven) {
      // As the transaction says, whatever the handler did then; what had failed before is no part of it.
      for (const failure of failures.values()) lease.failed(failure, false);
      return lease.acked(acknowledgement.offsets ?? []);
    }
    if (outcome.kind === 'done') {
      for (const failure of failures.values()) lease.failed(failure, doubt);
      return lease.done(failures.size === 0 ? offsets : offsets.filter((offset) => !failures.has(offset)));
    }
    const [first] = unit.items;
    const isSingle = unit.items.length === 1;
    const attempt = first?.attempt ?? 1;
    if (outcome.kind === 'abandoned') {
      // Consuming had to end, which says nothing of them; but where it ends a second time in the same batch, one of them may
      // be why, or hang. What is suspected of that already waits as well, so that it is not in front of the others each time.
      const mayBeWhy = isSingle ? unit.isAlone : attempt > 1;
      if (!mayBeWhy) return lease.again([offsets], { ms: 0, doubt });
    } else if (isSingle && first) {
      return lease.failed(
        { offset: first.record.offset, error: errorText(outcome.error), retryAt: retryAtOf(outcome.error) },
        doubt,
      );
    }
    // One of them, or the handler itself: in two halves, until it is found.
    const middle = Math.ceil(offsets.length / 2);
    const halves = [offsets.slice(0, middle), offsets.slice(middle)].filter(({ length }) => length > 0);
    lease.again(halves, { ms: backoffMs(attempt - 1, this.#options.backoff, random()), doubt });
  }
}

/** A handler says when to try again by the error that it throws. */
function retryAtOf(error: unknown): Date | undefined {
  try {
    const at = typeof error === 'object' && error !== null && 'retryAt' in error ? error.retryAt : undefined;
    return at instanceof Date && !Number.isNaN(at.getTime()) ? at : undefined;
  } catch {
    return undefined; // a getter of the handler's own
  }
}
