// What a handler has delivered and refused, in all and for each stream that somebody reads now. Only counts: it decides
// nothing and holds nothing of a connection. What is kept of a stream goes with its last connection, so that names that
// come and go cost nothing. Called for every write to every connection: that must not allocate.
import type { Frames } from '../tail/entry.ts';
import { wallClockMs } from '../util/clock.ts';
import type { EndReason } from './end-reason.ts';
import type { Interval, StatsLedger } from './stats-ledger.ts';
import { Traffic, type DeliveryStats } from './traffic.ts';

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
  readonly #ledger: StatsLedger | undefined;

  /** @param ledger what it counts in each interval, if that is kept */
  constructor(ledger?: StatsLedger) {
    this.#ledger = ledger;
  }

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
        if (traffic?.connections !== 0) continue;
        this.#streams.delete(stream);
        this.#ledger?.left(stream, traffic.take());
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

  /** What was counted since this was last asked; undefined without a ledger. */
  take(): Interval | undefined {
    const streams = Array.from(this.#streams, ([stream, traffic]) => ({ stream, ...traffic.take() }));
    const all = { ...this.#total.take(), ended: this.#ended, refused: Object.fromEntries(this.#refused) };
    return this.#ledger?.close(all, streams);
  }

  /** How many streams somebody reads now. */
  get streams(): number {
    return this.#streams.size;
  }
}
