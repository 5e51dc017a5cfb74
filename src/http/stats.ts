// What a handler has delivered and refused, in all and for each stream that somebody reads now. Only counts: it decides
// nothing and holds nothing of a connection. What is kept of a stream goes with its last connection, so that names that
// come and go cost nothing. Called for every write to every connection: that must not allocate.
import type { Entry, Frames } from '../tail/entry.ts';
import { wallClockMs } from '../util/clock.ts';
import { Histogram, type HistogramStats } from './histogram.ts';
import type { EndReason } from './session.ts';

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

/** Since the stream's oldest connection that leaves no pause to the next one. */
export interface StreamStats extends DeliveryStats {
  readonly stream: string;
}

/** Since the handler was made. A connection counts once, however many streams it reads. */
export interface HandlerStats extends DeliveryStats {
  /** Ended connections by reason. */
  readonly ended: Readonly<Record<EndReason, number>>;
  /** Requests for events that were answered otherwise, by status. */
  readonly refused: Readonly<Record<string, number>>;
  /** The streams that somebody reads now. */
  readonly streams: readonly StreamStats[];
}

export interface OpenedStream {
  readonly stream: string;
  /** How many events there were beyond where it starts. */
  readonly behind: number;
}

/** In milliseconds. */
const LATENCY_BOUNDS = [1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 60_000];
const REPLAY_BOUNDS = [0, 1, 10, 100, 1000, 10_000, 100_000, 1_000_000];

export class Stats {
  readonly #total = new Traffic();
  readonly #streams = new Map<string, Traffic>();
  readonly #ended: Record<EndReason, number> = {
    client: 0,
    slow: 0,
    shutdown: 0,
    lifetime: 0,
    expired: 0,
    revoked: 0,
    stream: 0,
    failed: 0,
  };
  readonly #refused = new Map<number, number>();

  /** A connection has opened; what it returns is called with the reason when it has ended, and counts once. */
  opened(streams: readonly OpenedStream[]): (reason: EndReason) => void {
    this.#total.open();
    for (const { stream, behind } of streams) {
      const traffic = this.#streams.get(stream) ?? new Traffic();
      this.#streams.set(stream, traffic);
      traffic.open();
      traffic.replayEvents.observe(behind);
      this.#total.replayEvents.observe(behind);
    }
    let over = false;
    return (reason) => {
      if (over) return;
      over = true;
      this.#ended[reason] += 1;
      this.#total.close(reason);
      for (const { stream } of streams) {
        const traffic = this.#streams.get(stream);
        traffic?.close(reason);
        if (traffic?.connections === 0) this.#streams.delete(stream);
      }
    };
  }

  /** A batch was written to one connection, as so many bytes. */
  delivered(stream: string, batch: Frames, bytes: number): void {
    const latencyMs = batch.live ? wallClockMs() - batch.first.record.atMs : undefined;
    const traffic = this.#streams.get(stream);
    const fresh = traffic?.fresh(batch) ?? 0;
    traffic?.delivered(batch, bytes, latencyMs, fresh);
    this.#total.delivered(batch, bytes, latencyMs, fresh);
  }

  /** A request for events was answered otherwise. */
  refused(status: number): void {
    this.#refused.set(status, (this.#refused.get(status) ?? 0) + 1);
  }

  /** A frozen copy, but for what is told of each stream. */
  totals(): Omit<HandlerStats, 'streams'> {
    const refused = Object.freeze(Object.fromEntries(this.#refused));
    return Object.freeze({ ...this.#total.stats(), ended: Object.freeze({ ...this.#ended }), refused });
  }

  /** A frozen copy. */
  snapshot(): HandlerStats {
    const streams = Array.from(this.#streams, ([stream, traffic]) =>
      Object.freeze({ stream, ...traffic.stats() }),
    );
    return Object.freeze({ ...this.totals(), streams: Object.freeze(streams) });
  }

  /** How many streams somebody reads now. */
  get streams(): number {
    return this.#streams.size;
  }
}

/** The counters of one stream, or of all. */
class Traffic {
  connections = 0;
  readonly replayEvents = new Histogram(REPLAY_BOUNDS);
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
      opened: this.#opened,
      evicted: this.#evicted,
      events: this.#events,
      bytes: this.#bytes,
      liveEvents: this.#liveEvents,
      liveDeliveries: this.#liveDeliveries,
      fanOut: this.#liveEvents === 0 ? null : this.#liveDeliveries / this.#liveEvents,
      replayEvents: this.replayEvents.stats(),
      latencyMs: this.#latencyMs.stats(),
    };
  }
}
