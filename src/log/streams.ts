// Streams as such: create, delete, list, describe. Statements beside the code that maps their rows.
import type { Database } from '../db/database.ts';
import { SluiceError } from '../util/errors.ts';
import { endOfPrefix } from './prefix.ts';
import { streamOptionsText, type StreamOptions } from './stream-options.ts';

export interface StreamInfo {
  readonly name: string;
  readonly head: bigint;
  /** The oldest offset that can be read; `head + 1` when there is none. */
  readonly oldest: bigint;
  /** How many events there are: exact, because offsets are dense. */
  readonly count: bigint;
  readonly createdAt: Date;
  readonly closed: boolean;
  /** The bounds on what the stream keeps; without any, it keeps everything. */
  readonly retention: Omit<StreamOptions, 'idempotencyWindowMs'>;
  /** How long an idempotency key is remembered, in milliseconds. */
  readonly idempotencyWindowMs: number;
}

/** What takes a few hundred look-ups in the primary key to find out, however long the stream is. */
export interface StreamDetails extends StreamInfo {
  /**
   * Bytes of JSON data in its events: exact up to 1 000 events, else estimated from 200 of them, one from each equal
   * part of the log. Not the space on disk.
   */
  readonly bytes: bigint;
  /** Events per second. Where less than the time asked for is kept, over that. */
  readonly rates: { readonly lastMinute: number; readonly lastHour: number };
}

// Times are numbers: how they are written is the session's to say, and how they are read, the program's (pg's type parsers).
interface InfoRow {
  name: string;
  head: string;
  oldest: string;
  created_ms: number;
  closed: boolean;
  max_age_ms: string | null;
  max_count: string | null;
  max_bytes: string | null;
  idempotency_window_ms: string;
}

interface DetailsRow extends InfoRow {
  bytes: string;
  last_minute: number;
  last_hour: number;
}

const LIST_PAGE = 500;

const headOf = (schema: string): string => `
  left join lateral (
    select "offset" from ${schema}.events
    where stream_id = s.id and "offset" > s.trimmed_to order by "offset" desc limit 1
  ) h on true`;

const COLUMNS = `s.name, coalesce(h."offset", s.trimmed_to)::text as head, (s.trimmed_to + 1)::text as oldest,
  date_part('epoch', s.created_at) * 1000 as created_ms, s.closed_at is not null as closed,
  s.max_age_ms::text, s.max_count::text, s.max_bytes::text, s.idempotency_window_ms::text`;

// `at` never decreases, so how many events came since a time is the head less an offset found by binary search. Where
// trimming has left less than that time, it is the events after the first one over the time since that one.
const rate = (schema: string, seconds: number): string => `
  (select coalesce(case when s.trimmed_to > 0 and first.at > since.at
      then (h."offset" - s.trimmed_to - 1) / greatest(extract(epoch from now.at - first.at), 0.001)
      else (h."offset" - ${schema}.offset_before(s.id, s.trimmed_to, h."offset", since.at)) / ${seconds}.0 end, 0)::float8
    from (select clock_timestamp() as at) now, (select clock_timestamp() - interval '${seconds} seconds' as at) since)`;

const details = (schema: string): string => `
  select ${COLUMNS}, ${schema}.estimate_bytes(s.id, s.trimmed_to, coalesce(h."offset", s.trimmed_to))::text as bytes,
    ${rate(schema, 60)} as last_minute, ${rate(schema, 3600)} as last_hour
  from ${schema}.streams s ${headOf(schema)}
  left join lateral (
    select at from ${schema}.events where stream_id = s.id and "offset" = s.trimmed_to + 1
  ) first on true
  where s.name = $1`;

const toInfo = (row: InfoRow): StreamInfo => ({
  name: row.name,
  head: BigInt(row.head),
  oldest: BigInt(row.oldest),
  count: BigInt(row.head) - BigInt(row.oldest) + 1n,
  createdAt: new Date(row.created_ms),
  closed: row.closed,
  retention: {
    ...(row.max_age_ms === null ? {} : { maxAgeMs: Number(row.max_age_ms) }),
    ...(row.max_count === null ? {} : { maxCount: Number(row.max_count) }),
    ...(row.max_bytes === null ? {} : { maxBytes: Number(row.max_bytes) }),
  },
  idempotencyWindowMs: Number(row.idempotency_window_ms),
});

export async function createStream(
  database: Database,
  name: string,
  options: StreamOptions,
): Promise<StreamDetails> {
  await database.query(`select ${database.names.quoted}.create_stream($1, $2)`, [
    name,
    streamOptionsText(options),
  ]);
  return requireInfo(database, name);
}

/** The incarnation deleted; undefined if there was no such stream. */
export async function deleteStream(database: Database, name: string): Promise<bigint | undefined> {
  const [row] = await database.query<{ id: string | null }>(
    `select ${database.names.quoted}.delete_stream($1)::text as id`,
    [name],
  );
  return row?.id === null || row === undefined ? undefined : BigInt(row.id);
}

export async function streamInfo(database: Database, name: string): Promise<StreamDetails | null> {
  const [row] = await database.query<DetailsRow>(details(database.names.quoted), [name], 'sluice_info');
  if (!row) return null;
  const rates = { lastMinute: row.last_minute, lastHour: row.last_hour };
  return { ...toInfo(row), bytes: BigInt(row.bytes), rates };
}

/** Of a stream that was there a moment ago. @throws SluiceError stream_not_found */
export async function requireInfo(database: Database, name: string): Promise<StreamDetails> {
  const info = await streamInfo(database, name);
  if (info) return info;
  throw new SluiceError('stream_not_found', `stream ${JSON.stringify(name)} was deleted meanwhile`);
}

/** All streams whose name starts with the prefix, in order of their names (bytewise), in keyset pages. */
export async function* listStreams(
  database: Database,
  prefix: string,
): AsyncGenerator<StreamInfo, void, undefined> {
  const { quoted } = database.names;
  for (let after = ''; ;) {
    const rows: InfoRow[] = await database.query<InfoRow>(
      `select ${COLUMNS} from ${quoted}.streams s ${headOf(quoted)}
       where s.name >= $1 and s.name > $2 and ($3::text is null or s.name < $3)
       order by s.name limit ${LIST_PAGE}`,
      [prefix, after, endOfPrefix(prefix) ?? null],
    );
    yield* rows.map(toInfo);
    if (rows.length < LIST_PAGE) return;
    after = rows.at(-1)?.name ?? '';
  }
}
