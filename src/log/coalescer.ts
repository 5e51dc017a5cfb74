// Gathers concurrent appends into few calls. Per stream at most one call is under way, so one caller's appends keep
// their order; streams that somebody holds are waited for apart, so they delay nobody else (a convoy otherwise: a call
// that holds ten streams would wait for the eleventh). One bad item fails alone. Bounded in events, calls and time.
import { SluiceError } from '../util/errors.ts';
import { deferred, type Deferred } from '../util/deferred.ts';
import { report } from '../util/diagnostics.ts';
import type { AppendCall, AppendGroup, AppendOutcome } from './append.ts';
import type { EncodedEvent } from './encode.ts';

/** Calls under way at most, and of these how many may wait for a held stream. */
const MAX_CALLS = 4;
const MAX_WAITING_CALLS = 2;
/** Events in one call, unless a single append has more. */
const MAX_CALL_EVENTS = 2000;
const MAX_CALL_BYTES = 8 * 2 ** 20;
const HELD_RETRY_MS = 25;

export interface CoalescerOptions {
  readonly autoCreate: boolean;
  /** How long an append waits for a stream that somebody holds, in milliseconds; then `overloaded`. */
  readonly lockWaitMs: number;
  /** Events waiting to be sent, at most; then `overloaded`. */
  readonly maxQueuedEvents: number;
  /** Their bytes of JSON, at most; then `overloaded`. */
  readonly maxQueuedBytes: number;
  send(groups: readonly AppendGroup[], call: AppendCall): Promise<AppendOutcome[]>;
  committed(group: AppendGroup, outcome: Extract<AppendOutcome, { kind: 'ok' }>): void;
}

export interface Appended {
  readonly incarnation: bigint;
  readonly first: bigint;
  readonly last: bigint;
  readonly lastTag: number;
}

interface Item {
  readonly events: readonly EncodedEvent[];
  readonly bytes: number;
  readonly deadline: number;
  readonly result: Deferred<Appended>;
}

interface Lane {
  items: Item[];
  /** A call for this stream is under way. */
  busy: boolean;
  /** Somebody holds the stream: it goes alone, in a call that may wait. */
  held: boolean;
}

export class Coalescer {
  readonly #options: CoalescerOptions;
  readonly #lanes = new Map<string, Lane>();
  #queuedEvents = 0;
  #queuedBytes = 0;
  #calls = 0;
  #waitingCalls = 0;
  #scheduled = false;
  #closed = false;
  #idle: Deferred<void> | undefined;

  constructor(options: CoalescerOptions) {
    this.#options = options;
  }

  /** Resolves when the events are committed and flushed. */
  append(stream: string, events: readonly EncodedEvent[]): Promise<Appended> {
    if (this.#closed) return Promise.reject(new SluiceError('closed', 'this Sluice is closed'));
    const bytes = events.reduce((sum, event) => sum + event.data.length, 0);
    const { maxQueuedEvents, maxQueuedBytes } = this.#options;
    const fits =
      this.#queuedEvents + events.length <= maxQueuedEvents && this.#queuedBytes + bytes <= maxQueuedBytes;
    if (this.#queuedEvents > 0 && !fits) {
      const queued = `${this.#queuedEvents} events (${this.#queuedBytes} bytes)`;
      return Promise.reject(
        new SluiceError('overloaded', `${queued} wait to be appended already; append more slowly`),
      );
    }
    const item: Item = { events, bytes, deadline: now() + this.#options.lockWaitMs, result: deferred() };
    const lane = this.#lanes.get(stream);
    if (lane) lane.items.push(item);
    else this.#lanes.set(stream, { items: [item], busy: false, held: false });
    this.#queuedEvents += events.length;
    this.#queuedBytes += bytes;
    this.#schedule();
    return item.result.promise;
  }

  /** Refuses new appends and resolves when those accepted have their outcome. */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.#lanes.size === 0) return;
    this.#idle ??= deferred();
    await this.#idle.promise;
  }

  // Callers that a finished call wakes append again within the same turn: wait for all of them, then send.
  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#pump();
    });
  }

  #pump(): void {
    while (this.#calls < MAX_CALLS) {
      const batch = this.#takeWaiting() ?? this.#takeReady();
      if (!batch) return;
      void this.#run(batch);
    }
  }

  #takeWaiting(): Batch | undefined {
    if (this.#waitingCalls >= MAX_WAITING_CALLS) return undefined;
    for (const [stream, lane] of this.#lanes) {
      if (lane.held && !lane.busy) return this.#take([[stream, lane]], true);
    }
    return undefined;
  }

  #takeReady(): Batch | undefined {
    const ready: [string, Lane][] = [];
    let events = 0;
    for (const [stream, lane] of this.#lanes) {
      if (lane.busy) continue; // held ones too: nobody may wait for them now, and they may be free again
      ready.push([stream, lane]);
      for (const item of lane.items) events += item.events.length;
      if (events >= MAX_CALL_EVENTS) break;
    }
    if (ready.length === 0) return undefined;
    // A single stream may be waited for at once: the call holds nothing that anybody else could want.
    return this.#take(ready, ready.length === 1 && this.#waitingCalls < MAX_WAITING_CALLS);
  }

  #take(ready: readonly [string, Lane][], mayWait: boolean): Batch {
    const parts = ready.map(([stream, lane]) => {
      lane.busy = true;
      const items = takeUpTo(lane, MAX_CALL_EVENTS, MAX_CALL_BYTES);
      return {
        stream,
        lane,
        items,
        events: items.length === 1 ? (items[0] as Item).events : items.flatMap((item) => item.events),
      };
    });
    return { parts, mayWait };
  }

  async #run({ parts, mayWait }: Batch): Promise<void> {
    this.#calls += 1;
    if (mayWait) this.#waitingCalls += 1;
    const started = now();
    try {
      const waitMs = mayWait ? Math.max(1, Math.ceil((parts[0]?.items[0]?.deadline ?? 0) - started)) : 0;
      const outcomes = await this.#options.send(parts, { autoCreate: this.#options.autoCreate, waitMs });
      for (const [index, part] of parts.entries()) this.#settle(part, outcomes[index] ?? { kind: 'held' });
      report('sluice:append.committed', () => ({
        streams: parts.length,
        events: countEvents(parts),
        ms: now() - started,
      }));
    } catch (error) {
      await this.#failed(parts, error);
    } finally {
      this.#calls -= 1;
      if (mayWait) this.#waitingCalls -= 1;
      // Held although it was waited for (a long backlog, or somebody is creating the stream), or while others do all
      // the waiting that may be done: again, but not at once.
      const later = mayWait || this.#waitingCalls >= MAX_WAITING_CALLS;
      for (const { stream, lane } of parts) {
        if (lane.items.length === 0) this.#lanes.delete(stream);
        else if (later && lane.held) setTimeout(() => this.#free(lane), HELD_RETRY_MS);
        else lane.busy = false;
      }
      this.#schedule(); // also for streams that waited for a call to end
      if (this.#lanes.size === 0) this.#idle?.resolve();
    }
  }

  #free(lane: Lane): void {
    lane.busy = false;
    this.#schedule();
  }

  #settle(part: Part, outcome: AppendOutcome): void {
    part.lane.held = outcome.kind === 'held';
    if (outcome.kind === 'held') return this.#putBack(part);
    if (outcome.kind === 'ok') {
      this.#options.committed(part, outcome);
      let next = outcome.first;
      for (const item of part.items) {
        const first = next;
        next += BigInt(item.events.length);
        const lastTag = outcome.tags[Number(next - outcome.first) - 1] ?? 0;
        this.#done(item).resolve({ incarnation: outcome.incarnation, first, last: next - 1n, lastTag });
      }
      return;
    }
    const error =
      outcome.kind === 'closed'
        ? new SluiceError(
            'stream_closed',
            `stream ${JSON.stringify(part.stream)} is closed; nothing was appended`,
          )
        : new SluiceError(
            'stream_not_found',
            `stream ${JSON.stringify(part.stream)} does not exist; create it, or leave autoCreate on`,
          );
    for (const item of part.items) this.#done(item).reject(error);
  }

  #putBack({ stream, lane, items }: Part): void {
    const alive = items.filter((item) => item.deadline > now());
    for (const item of items) if (!alive.includes(item)) this.#done(item).reject(heldTooLong(stream));
    lane.items = [...alive, ...lane.items];
  }

  // Which item the server refused is not known: each is tried alone, in order. A lost connection leaves the outcome
  // unknown, and appending again could double the events, so that is the callers' to decide.
  async #failed(parts: readonly Part[], error: unknown): Promise<void> {
    const total = parts.reduce((sum, { items }) => sum + items.length, 0);
    const code = error instanceof SluiceError ? error.code : undefined;
    for (const part of parts) {
      for (const [index, item] of part.items.entries()) {
        if (code === 'overloaded') this.#done(item).reject(heldTooLong(part.stream, error));
        else if (total === 1 || code !== 'payload_invalid') this.#done(item).reject(error);
        else if (!(await this.#alone(part, item))) {
          this.#settle({ ...part, items: part.items.slice(index) }, { kind: 'held' }); // none overtakes another
          break;
        }
      }
    }
  }

  // False: the stream is held, and the item has no outcome yet.
  async #alone({ stream, lane }: Part, item: Item): Promise<boolean> {
    const part = { stream, lane, items: [item], events: item.events };
    try {
      const waitMs = Math.max(1, Math.ceil(item.deadline - now()));
      const [outcome] = await this.#options.send([part], { autoCreate: this.#options.autoCreate, waitMs });
      if (!outcome || outcome.kind === 'held') return false;
      this.#settle(part, outcome);
    } catch (error) {
      this.#done(item).reject(error);
    }
    return true;
  }

  #done(item: Item): Deferred<Appended> {
    this.#queuedEvents -= item.events.length;
    this.#queuedBytes -= item.bytes;
    return item.result;
  }
}

interface Part extends AppendGroup {
  readonly lane: Lane;
  readonly items: readonly Item[];
}

interface Batch {
  readonly parts: readonly Part[];
  readonly mayWait: boolean;
}

const now = (): number => performance.now();

const countEvents = (parts: readonly Part[]): number =>
  parts.reduce((sum, { events }) => sum + events.length, 0);

function takeUpTo(lane: Lane, maxEvents: number, maxBytes: number): Item[] {
  let events = 0;
  let bytes = 0;
  let count = 0;
  for (const item of lane.items) {
    if (count > 0 && (events + item.events.length > maxEvents || bytes + item.bytes > maxBytes)) break;
    events += item.events.length;
    bytes += item.bytes;
    count += 1;
  }
  return lane.items.splice(0, count);
}

const heldTooLong = (stream: string, cause?: unknown): SluiceError =>
  new SluiceError(
    'overloaded',
    `stream ${JSON.stringify(stream)} is held by another transaction, or has a long backlog; nothing was appended: try again`,
    { cause },
  );
