// Writes a handler's counts to the table `stats_history`, interval by interval, and removes what has been kept long
// enough. One write at a time, beside delivery and never in its way: while it cannot be made its counts wait, as one
// interval that is repeated until it is known to be there, and what is counted meanwhile as the next, longer one.
import { randomUUID } from 'node:crypto';
import type { Database } from '../db/database.ts';
import { nap } from '../util/abort.ts';
import { deadline } from '../util/deadline.ts';
import { deferred } from '../util/deferred.ts';
import { report } from '../util/diagnostics.ts';
import { SluiceError } from '../util/errors.ts';
import type { LoggerLike } from '../util/logger.ts';
import { countsByBound } from './histogram.ts';
import type { StatsHistorySettings } from './handler-options.ts';
import type { Stats } from './stats.ts';
import type { Interval } from './stats-ledger.ts';
import type { Counted } from './traffic.ts';

/** Rows removed in one batch. */
const EXPIRY_BATCH = 5000;
/** How long the last interval may hold up the end, in milliseconds. */
const CLOSE_WITHIN_MS = 2000;

export interface StatsRecorderOptions extends StatsHistorySettings {
  readonly database: Database;
  readonly logger: LoggerLike;
  readonly stats: Stats;
}

interface Taken {
  readonly sequence: number;
  /** JSON. */
  readonly rows: string;
  readonly count: number;
  readonly spanMs: number;
  readonly at: number;
}

export class StatsRecorder {
  readonly #options: StatsRecorderOptions;
  readonly #run = randomUUID();
  readonly #closing = new AbortController();
  readonly #ended: Promise<void>;
  #sequence = 0;
  #takenAt = performance.now();
  /** Perhaps written, perhaps not. */
  #waiting: Taken | undefined;

  constructor(options: StatsRecorderOptions) {
    this.#options = options;
    this.#ended = this.#record();
  }

  /** Writes what was counted since the last interval, if that can be done soon. Never rejects. */
  async close(): Promise<void> {
    this.#closing.abort();
    const late = deferred();
    const settle = deadline(CLOSE_WITHIN_MS, late.resolve);
    await Promise.race([this.#ended, late.promise]);
    settle();
  }

  async #record(): Promise<void> {
    const { signal } = this.#closing;
    for (let last = false; !last;) {
      await nap(this.#options.intervalMs, signal).done;
      last = signal.aborted; // an end that came during a write has one more to make
      await this.#attempt(async () => {
        await this.#write();
        while (!signal.aborted && (await this.#expire()));
      });
    }
  }

  async #write(): Promise<void> {
    if (this.#waiting) await this.#send(this.#waiting);
    this.#waiting = this.#take();
    if (this.#waiting) await this.#send(this.#waiting);
    this.#waiting = undefined;
  }

  #take(): Taken | undefined {
    const interval = this.#options.stats.take();
    if (!interval) return undefined;
    const at = performance.now();
    const spanMs = at - this.#takenAt;
    this.#takenAt = at;
    this.#sequence += 1;
    const rows = rowsOf(interval);
    return { sequence: this.#sequence, rows: JSON.stringify(rows), count: rows.length, spanMs, at };
  }

  async #send({ sequence, rows, count, spanMs, at }: Taken): Promise<void> {
    const { database, instance, keepMs } = this.#options;
    await database.query(
      `select ${database.names.quoted}.record_stats($1, $2, $3, $4, $5, $6, $7)`,
      [this.#run, sequence, instance, rows, spanMs, performance.now() - at, keepMs],
      'sluice_record_stats',
    );
    report('sluice:stats.recorded', () => ({ instance, run: this.#run, sequence, rows: count }));
  }

  async #expire(): Promise<boolean> {
    const { database } = this.#options;
    const [row] = await database.query<{ removed: string }>(
      `select ${database.names.quoted}.expire_stats($1)::text as removed`,
      [EXPIRY_BATCH],
      'sluice_expire_stats',
    );
    const removed = Number(row?.removed ?? 0);
    if (removed > 0) report('sluice:stats.expired', () => ({ rows: removed }));
    return removed >= EXPIRY_BATCH;
  }

  async #attempt(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      // There is nothing to write to any more.
      if (error instanceof SluiceError && error.code === 'closed') return this.#closing.abort();
      this.#options.logger.warn({ error }, 'the history of figures could not be written; it is tried again');
      report('sluice:background.failed', () => ({ where: 'stats history', error }));
    }
  }
}

const rowsOf = ({ all, streams, leftOut }: Interval): object[] => [
  { ...columnsOf(all), ended: all.ended, refused: all.refused, left_out: leftOut },
  ...streams.map((each) => ({ stream: each.stream, ...columnsOf(each) })),
];

const columnsOf = (counted: Counted): object => ({
  connections: counted.connections,
  opened: counted.opened,
  evicted: counted.evicted,
  events: counted.events,
  bytes: counted.bytes,
  live_events: counted.liveEvents,
  live_deliveries: counted.liveDeliveries,
  replay_events: countsByBound(counted.replayEvents),
  replay_events_sum: counted.replayEvents.sum,
  latency_ms: countsByBound(counted.latencyMs),
  latency_ms_sum: counted.latencyMs.sum,
});
