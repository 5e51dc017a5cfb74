// The counters of one stream, or of all: what its connections were sent, as it stands and since it was last taken.
// Called for every write to every connection: counting must not allocate.
import type { Entry, Frames } from '../tail/entry.ts';
import { Histogram, type HistogramStats, type Tally } from './histogram.ts';
import type { EndReason } from './end-reason.ts';

export interface DeliveryStats {
  /** Connections open now. */
  readonly connections: number;
  /** Connections opened so far. */
  readonly opened: number;
  /** Of them, dropped because they did not take what was sent to them. */
  readonly evicted: number;
  /** Events written, an event once for each connection it went to. */
  readonly events: number;
  /** Their bytes, frames included. */
  readonly bytes: number;
  /** Events that went out as they came, each counted once. */
  readonly liveEvents: number;
  /** The same, an event once for each connection that got it so. */
  readonly liveDeliveries: number;
  /** `liveDeliveries` by `liveEvents`: how many connections an event goes to; null before the first. */
  readonly fanOut: number | null;
  /** How many events a connection had to catch up with when it opened, for each stream that it reads. */
  readonly replayEvents: HistogramStats;
  /**
   * From the `at` of an event to its write to a connection, of what went out as it came: one sample for each write, the
   * oldest event in it. `at` is by the database's clock, the write by this machine's.
   */
  readonly latencyMs: HistogramStats;
}

/** What was counted since it was last taken; `connections` are those open now. */
export interface Counted extends Counts {
  readonly connections: number;
  readonly replayEvents: Tally;
  readonly latencyMs: Tally;
}

interface Counts {
  readonly opened: number;
  readonly evicted: number;
  readonly events: number;
  readonly bytes: number;
  readonly liveEvents: number;
  readonly liveDeliveries: number;
}

const NONE: Counts = { opened: 0, evicted: 0, events: 0, bytes: 0, liveEvents: 0, liveDeliveries: 0 };
const NO_TALLY: Tally = { bounds: [], counts: new Float64Array(0), sum: 0 };

/** In milliseconds. */
const LATENCY_BOUNDS = [1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 60_000];
const REPLAY_BOUNDS = [0, 1, 10, 100, 1000, 10_000, 100_000, 1_000_000];

export class Traffic {
  connections = 0;
  readonly replayEvents: Histogram = new Histogram(REPLAY_BOUNDS);
  readonly #latencyMs = new Histogram(LATENCY_BOUNDS);
  #opened = 0;
  #evicted = 0;
  #events = 0;
  #bytes = 0;
  #liveEvents = 0;
  #liveDeliveries = 0;
  /** The batch that goes out, by its last event, and what of it somebody has got: a part of it may be hidden from each. */
  #current: Entry | undefined;
  readonly #seen = new Set<bigint>();
  #taken: Counts = NONE;

  open(): void {
    this.connections += 1;
    this.#opened += 1;
  }

  close(reason: EndReason): void {
    this.connections -= 1;
    if (reason === 'slow') this.#evicted += 1;
  }

  /** How many of these events go out for the first time. The tail hands a batch to all who are live before the next one. */
  fresh({ live, entries, whole }: Frames): number {
    if (!live) return 0;
    if (whole.last !== this.#current) {
      this.#current = whole.last;
      this.#seen.clear();
    }
    const before = this.#seen.size;
    if (before < whole.entries.length) for (const { offset } of entries) this.#seen.add(offset);
    return this.#seen.size - before;
  }

  delivered({ entries }: Frames, bytes: number, latencyMs: number | undefined, fresh: number): void {
    this.#events += entries.length;
    this.#bytes += bytes;
    if (latencyMs === undefined) return;
    this.#latencyMs.observe(latencyMs);
    this.#liveDeliveries += entries.length;
    this.#liveEvents += fresh;
  }

  stats(): DeliveryStats {
    return {
      connections: this.connections,
      ...this.#counts(),
      fanOut: this.#liveEvents === 0 ? null : this.#liveDeliveries / this.#liveEvents,
      replayEvents: this.replayEvents.stats(),
      latencyMs: this.#latencyMs.stats(),
    };
  }

  /** What was counted since this was last asked. */
  take(): Counted {
    const { connections } = this;
    const [before, now] = [this.#taken, this.#counts()];
    if (now.opened === before.opened && now.events === before.events && now.evicted === before.evicted) {
      return { connections, ...NONE, replayEvents: NO_TALLY, latencyMs: NO_TALLY };
    }
    this.#taken = now;
    return {
      connections,
      opened: now.opened - before.opened,
      evicted: now.evicted - before.evicted,
      events: now.events - before.events,
      bytes: now.bytes - before.bytes,
      liveEvents: now.liveEvents - before.liveEvents,
      liveDeliveries: now.liveDeliveries - before.liveDeliveries,
      replayEvents: this.replayEvents.take(),
      latencyMs: this.#latencyMs.take(),
    };
  }

  #counts(): Counts {
    return {
      opened: this.#opened,
      evicted: this.#evicted,
      events: this.#events,
      bytes: this.#bytes,
      liveEvents: this.#liveEvents,
      liveDeliveries: this.#liveDeliveries,
    };
  }
}
