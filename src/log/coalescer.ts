// Gathers concurrent appends into few calls. Per stream at most one call is under way, so one caller's appends keep
// their order; streams that somebody holds are waited for apart, so they delay nobody else (a convoy otherwise: a call
// that holds ten streams would wait for the eleventh). One bad item fails alone. Bounded in events, calls and time.
import { lockWaitMs } from '../db/lock-wait.ts';
import { SluiceError } from '../util/errors.ts';
import { deferred, type Deferred } from '../util/deferred.ts';
import { report } from '../util/diagnostics.ts';
import type { AppendCall, AppendGroup, AppendOutcome } from './append.ts';
import { sizeOf } from './encode.ts';
import type { EncodedEvent } from './event.ts';
import {
  groupOf,
  takeGroups,
  type AppendDemands,
  type Appended,
  type Item,
  type ItemGroup,
  type Lane,
} from './lane.ts';
import { heldTooLong, appendRefusal } from './append-refusal.ts';

/** Calls under way at most, and of these how many may wait for a held stream. */
const MAX_CALLS = 4;
const MAX_WAITING_CALLS = 2;
/** Events in one call, unless a single append has more. */
const CALL_LIMITS = { maxEvents: 2000, maxBytes: 8 * 2 ** 20 };
/** Streams of one call. Each that has to be made takes a lock, and all transactions of the cluster share the room for them. */
const MAX_CALL_STREAMS = 250;
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

  /** Resolves when the events are committed and flushed, or known to have been before. */
  append(
    stream: string,
    events: readonly EncodedEvent[],
    { idempotencyKey, expectedOffset }: AppendDemands = NO_DEMANDS,
  ): Promise<Appended> {
    if (this.#closed) return Promise.reject(new SluiceError('closed', 'this Sluice is closed'));
    const bytes = sizeOf(events);
    const { maxQueuedEvents, maxQueuedBytes } = this.#options;
    const fits =
      this.#queuedEvents + events.length <= maxQueuedEvents && this.#queuedBytes + bytes <= maxQueuedBytes;
    if (this.#queuedEvents > 0 && !fits) {
      const queued = `${this.#queuedEvents} events (${this.#queuedBytes} bytes)`;
      return Promise.reject(
        new SluiceError('overloaded', `${queued} wait to be appended already; append more slowly`),
      );
    }
    const deadline = now() + this.#options.lockWaitMs;
    const item: Item = { events, bytes, deadline, result: deferred(), idempotencyKey, expectedOffset };
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
      if (events >= CALL_LIMITS.maxEvents || ready.length === MAX_CALL_STREAMS) break;
    }
    if (ready.length === 0) return undefined;
    // A single stream may be waited for at once: the call holds nothing that anybody else could want.
    return this.#take(ready, ready.length === 1 && this.#waitingCalls < MAX_WAITING_CALLS);
  }

  #take(ready: readonly [string, Lane][], mayWait: boolean): Batch {
    const parts = ready.map(([stream, lane]) => {
      lane.busy = true;
      this.#lanes.delete(stream); // behind those whose turn has not come
      this.#lanes.set(stream, lane);
      return { stream, lane, groups: takeGroups(stream, lane, CALL_LIMITS) };
    });
    return { parts, mayWait };
  }

  async #run({ parts, mayWait }: Batch): Promise<void> {
    this.#calls += 1;
    if (mayWait) this.#waitingCalls += 1;
    const started = now();
    try {
      const groups = parts.flatMap((part) => part.groups);
      const waitMs = mayWait ? lockWaitMs((groups[0]?.items[0]?.deadline ?? 0) - started) : 0;
      const outcomes = await this.#options.send(groups, { autoCreate: this.#options.autoCreate, waitMs });
      let next = 0;
      for (const part of parts) this.#settlePart(part, outcomes.slice(next, (next += part.groups.length)));
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

  // The groups of a stream are held together or not at all.
  #settlePart({ stream, lane, groups }: Part, outcomes: readonly AppendOutcome[]): void {
    lane.held = outcomes.some(({ kind }) => kind === 'held') || outcomes.length < groups.length;
    if (lane.held) return this.#putBack(stream, lane, itemsOf(groups));
    for (const [index, group] of groups.entries()) this.#settle(group, outcomes[index] as AppendOutcome);
  }

  #settle(group: ItemGroup, outcome: AppendOutcome): void {
    if (outcome.kind === 'ok') {
      this.#options.committed(group, outcome);
      const { incarnation, first: start, tags } = outcome;
      let next = 0;
      for (const item of group.items) {
        const first = start + BigInt(next);
        next += item.events.length;
        const last = item.events.length === 1 ? first : start + BigInt(next - 1);
        const lastTag = tags[next - 1] ?? 0;
        this.#done(item).resolve({ incarnation, first, last, lastTag, duplicate: false });
      }
      return;
    }
    for (const item of group.items) {
      if (outcome.kind === 'duplicate') this.#done(item).resolve({ ...outcome, duplicate: true });
      else this.#done(item).reject(appendRefusal(group, outcome));
    }
  }

  #putBack(stream: string, lane: Lane, items: readonly Item[], cause?: unknown): void {
    const at = now();
    for (const item of items) if (item.deadline <= at) this.#done(item).reject(heldTooLong(stream, cause));
    lane.items = [...items.filter((item) => item.deadline > at), ...lane.items];
  }

  // Which item the server refused is not known: each is tried alone, in order. A lost connection leaves the outcome
  // unknown, and appending again could double the events, so that is the callers' to decide.
  async #failed(parts: readonly Part[], error: unknown): Promise<void> {
    const total = parts.reduce((sum, { groups }) => sum + itemsOf(groups).length, 0);
    const code = error instanceof SluiceError ? error.code : undefined;
    for (const { stream, lane, groups } of parts) {
      const items = itemsOf(groups);
      if (code === 'overloaded') {
        lane.held = true;
        this.#putBack(stream, lane, items, error); // each waits for as long as it may
        continue;
      }
      for (const [index, item] of items.entries()) {
        if (total === 1 || code !== 'payload_invalid') this.#done(item).reject(error);
        else if (!(await this.#alone(stream, item))) {
          lane.held = true;
          this.#putBack(stream, lane, items.slice(index)); // none overtakes another
          break;
        }
      }
    }
  }

  // False: the stream is held, and the item has no outcome yet.
  async #alone(stream: string, item: Item): Promise<boolean> {
    const group = groupOf(stream, [item]);
    try {
      const waitMs = lockWaitMs(item.deadline - now());
      const [outcome] = await this.#options.send([group], { autoCreate: this.#options.autoCreate, waitMs });
      if (!outcome || outcome.kind === 'held') return false;
      this.#settle(group, outcome);
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

interface Part {
  readonly stream: string;
  readonly lane: Lane;
  readonly groups: readonly ItemGroup[];
}

interface Batch {
  readonly parts: readonly Part[];
  readonly mayWait: boolean;
}

const NO_DEMANDS: AppendDemands = {};

const now = (): number => performance.now();

const itemsOf = (groups: readonly ItemGroup[]): Item[] => groups.flatMap(({ items }) => items);

const countEvents = (parts: readonly Part[]): number =>
  parts.reduce((sum, { groups }) => sum + groups.reduce((n, { events }) => n + events.length, 0), 0);
