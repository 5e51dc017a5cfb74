// What is to be kept of an interval: the counts of the busiest streams, of those too whose last connection has gone
// meanwhile, and of all together. Bounded, whatever names come and go. Pure.
import type { Tally } from './histogram.ts';
import type { EndReason } from './end-reason.ts';
import type { Counted } from './traffic.ts';

export interface CountedStream extends Counted {
  readonly stream: string;
}

export interface CountedHandler extends Counted {
  /** Ended connections by reason, and refused requests by status; without those that did not happen. */
  readonly ended: Readonly<Record<string, number>>;
  readonly refused: Readonly<Record<string, number>>;
}

export interface Interval {
  readonly all: CountedHandler;
  /** Busiest first. */
  readonly streams: readonly CountedStream[];
  /** How many streams more there were. */
  readonly leftOut: number;
}

export class StatsLedger {
  readonly #maxStreams: number;
  #left = new Map<string, CountedStream>();
  #leftOut = 0;
  #ended: Readonly<Record<string, number>> = {};
  #refused: Readonly<Record<string, number>> = {};

  /** @param maxStreams kept of an interval */
  constructor(maxStreams: number) {
    this.#maxStreams = maxStreams;
  }

  /** A stream's last connection has gone, and with it what was counted since its counts were last taken. */
  left(stream: string, counted: Counted): void {
    const before = this.#left.get(stream);
    this.#left.set(stream, { stream, ...(before ? sum(before, counted) : counted) });
    if (this.#left.size <= 2 * this.#maxStreams) return;
    const kept = busiest(this.#left.values(), this.#maxStreams);
    this.#leftOut += this.#left.size - kept.length;
    this.#left = new Map(kept.map((each) => [each.stream, each]));
  }

  /** Streams that have gone and are held until it is. */
  get held(): number {
    return this.#left.size;
  }

  /**
   * The interval is over.
   *
   * @param all `ended` and `refused` as they stand, everything else as counted in the interval
   */
  close(
    all: Counted & { readonly ended: Record<EndReason, number>; readonly refused: Record<string, number> },
    streams: readonly CountedStream[],
  ): Interval {
    const counted = new Map(this.#left);
    for (const each of streams) {
      const before = counted.get(each.stream);
      counted.set(each.stream, before ? { stream: each.stream, ...sum(before, each) } : each);
    }
    const kept = busiest(counted.values(), this.#maxStreams);
    const interval = {
      all: { ...all, ended: since(this.#ended, all.ended), refused: since(this.#refused, all.refused) },
      streams: kept,
      leftOut: this.#leftOut + counted.size - kept.length,
    };
    this.#left = new Map();
    this.#leftOut = 0;
    this.#ended = { ...all.ended };
    this.#refused = { ...all.refused };
    return interval;
  }
}

const busiest = (streams: Iterable<CountedStream>, count: number): CountedStream[] =>
  [...streams]
    .sort((a, b) => b.events - a.events || b.opened - a.opened || b.connections - a.connections)
    .slice(0, count);

/** The second is the later one. */
const sum = (a: Counted, b: Counted): Counted => ({
  connections: b.connections,
  opened: a.opened + b.opened,
  evicted: a.evicted + b.evicted,
  events: a.events + b.events,
  bytes: a.bytes + b.bytes,
  liveEvents: a.liveEvents + b.liveEvents,
  liveDeliveries: a.liveDeliveries + b.liveDeliveries,
  replayEvents: sumOf(a.replayEvents, b.replayEvents),
  latencyMs: sumOf(a.latencyMs, b.latencyMs),
});

/** One of them may be empty. */
function sumOf(a: Tally, b: Tally): Tally {
  const [long, short] = a.counts.length < b.counts.length ? [b, a] : [a, b];
  const counts = long.counts.map((count, index) => count + (short.counts[index] ?? 0));
  return { bounds: long.bounds, counts, sum: a.sum + b.sum };
}

const since = (
  before: Readonly<Record<string, number>>,
  now: Readonly<Record<string, number>>,
): Readonly<Record<string, number>> =>
  Object.fromEntries(
    Object.entries(now)
      .map(([name, count]) => [name, count - (before[name] ?? 0)] as const)
      .filter(([, count]) => count > 0),
  );
