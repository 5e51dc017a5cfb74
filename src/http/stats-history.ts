// The history of handlers' counts as it is read back: of all processes that keep one in this schema, oldest first, in
// keyset pages.
import type { Database } from '../db/database.ts';
import { timestamp } from '../db/timestamp.ts';
import type { HistogramStats } from './histogram.ts';
import type { DeliveryStats } from './traffic.ts';

export interface StatsHistoryQuery {
  /** Of one stream; null: of handlers as a whole. Default: everything. */
  readonly stream?: string | null | undefined;
  /** Of intervals that ended then or later. Default: all that are kept. */
  readonly since?: Date | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What a handler did in an interval, or one stream of it: `connections` as they were at its end, all else counted in it. */
export interface StatsInterval extends DeliveryStats {
  /** Null: the handler as a whole. */
  readonly stream: string | null;
  /** The end of the interval, by the database's clock. */
  readonly at: Date;
  readonly spanMs: number;
  /** The process, as it calls itself. */
  readonly instance: string;
  /** The handler in it: another one after each start. */
  readonly run: string;
  /** Of the interval, from 1. */
  readonly sequence: number;
  /** Ended connections by reason, of the handler as a whole; without those that did not happen. */
  readonly ended: Readonly<Record<string, number>> | null;
  /** Refused requests by status, of the handler as a whole. */
  readonly refused: Readonly<Record<string, number>> | null;
  /** Streams that were read and are not told of, of the handler as a whole. */
  readonly leftOut: number | null;
}

const PAGE = 500;

interface Row {
  at: string;
  id: string;
  stream: string | null;
  span_ms: number;
  instance: string;
  run: string;
  sequence: string;
  connections: number;
  opened: string;
  evicted: string;
  events: string;
  bytes: string;
  live_events: string;
  live_deliveries: string;
  replay_events: string;
  replay_events_sum: number;
  latency_ms: string;
  latency_ms_sum: number;
  ended: string | null;
  refused: string | null;
  left_out: number | null;
}

// The time to the microsecond, which a Date does not have.
const COLUMNS = `to_char(at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at, id::text, stream, span_ms,
  instance, run::text, sequence::text, connections, opened::text, evicted::text, events::text, bytes::text,
  live_events::text, live_deliveries::text, replay_events::text, replay_events_sum, latency_ms::text, latency_ms_sum,
  ended::text, refused::text, left_out`;

/** @throws SluiceError connection_lost, permission_denied */
export async function* readStatsHistory(
  database: Database,
  { stream, since, signal }: StatsHistoryQuery,
): AsyncGenerator<StatsInterval, void, undefined> {
  const of = stream === undefined ? '' : stream === null ? 'h.stream is null and' : 'h.stream = $3 and';
  let after = [since === undefined ? '-infinity' : timestamp('since', since), '0'];
  for (;;) {
    if (signal?.aborted) return;
    const rows: Row[] = await database.query<Row>(
      `select ${COLUMNS} from ${database.names.quoted}.stats_history h
       where ${of} (h.at, h.id) > ($1::timestamptz, $2::bigint) order by h.at, h.id limit ${PAGE}`,
      typeof stream === 'string' ? [...after, stream] : after,
    );
    for (const row of rows) {
      if (signal?.aborted) return;
      yield toInterval(row);
    }
    const last = rows.at(-1);
    if (!last || rows.length < PAGE) return;
    after = [last.at, last.id];
  }
}

function toInterval(row: Row): StatsInterval {
  const [liveEvents, liveDeliveries] = [Number(row.live_events), Number(row.live_deliveries)];
  return Object.freeze({
    stream: row.stream,
    at: new Date(row.at),
    spanMs: row.span_ms,
    instance: row.instance,
    run: row.run,
    sequence: Number(row.sequence),
    connections: row.connections,
    opened: Number(row.opened),
    evicted: Number(row.evicted),
    events: Number(row.events),
    bytes: Number(row.bytes),
    liveEvents,
    liveDeliveries,
    fanOut: liveEvents === 0 ? null : liveDeliveries / liveEvents,
    replayEvents: toHistogram(row.replay_events, row.replay_events_sum),
    latencyMs: toHistogram(row.latency_ms, row.latency_ms_sum),
    ended: toCounts(row.ended),
    refused: toCounts(row.refused),
    leftOut: row.left_out,
  });
}

const toCounts = (json: string | null): Readonly<Record<string, number>> | null =>
  json === null ? null : (JSON.parse(json) as Record<string, number>);

/** Its buckets are those where something fell. */
function toHistogram(json: string, sum: number): HistogramStats {
  const counts = Object.entries(JSON.parse(json) as Record<string, number>).map(
    ([le, some]) => [Number(le), some] as const,
  );
  let count = 0;
  const buckets = counts.toSorted(([a], [b]) => a - b).map(([le, some]) => ({ le, count: (count += some) }));
  return { count, sum, buckets };
}
