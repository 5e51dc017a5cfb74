// Pages of a stream, read by cursor: one statement, one snapshot, the state of the stream beside its events. Nothing
// else reads events. Bounded in events and in bytes; a page with no event after the standing one means "up to date".
import type { Database } from '../db/database.ts';
import { MAX_OFFSET, toRecord, type EventRecord, type StreamIdentity } from './event.ts';
import type { StreamState } from './locate.ts';
import { isStandbyOf } from './standby.ts';

/** Events in one page at most. */
export const MAX_PAGE_EVENTS = 1000;
/** Bytes of data, keys and headers after which a page ends (it holds at least one event). */
const MAX_PAGE_BYTES = 4 * 2 ** 20;

export interface Page {
  readonly state: StreamState;
  /** From the standing offset on: the event at it first, if it is in the log. */
  readonly rows: readonly EventRecord[];
}

type StateColumns = [string, string, number, boolean, string, number];
type Text = string | null;
/** Offset, tag, at, type, key, visible_to, exclude, headers, data: what `eventColumns` selects and `recordOf` takes. */
export type EventColumns = [string, number, number, Text, Text, Text, Text, Text, string];
type Row = [...StateColumns, ...(EventColumns | [null])];

/** Of a table that has an event in each row. */
export const eventColumns = (table: string): string =>
  `${table}."offset"::text, ${table}.tag, date_part('epoch', ${table}.at) * 1000, ${table}.type, ${table}.key,
    ${table}.visible_to, ${table}.exclude::text, ${table}.headers::text, ${table}.data::text`;

const statement = (schema: string, condition: string): string => `
  select s.id::text, s.trimmed_to::text, s.trimmed_tag, s.closed_at is not null, coalesce(h."offset", s.trimmed_to)::text,
    coalesce(h.tag, s.trimmed_tag), ${eventColumns('e')}
  from ${schema}.streams s
  left join lateral (
    select "offset", tag from ${schema}.events
    where stream_id = s.id and "offset" > s.trimmed_to order by "offset" desc limit 1
  ) h on true
  left join lateral (
    select p.* from (
      select e.*, coalesce(sum(e.size + coalesce(octet_length(e.key), 0) + coalesce(octet_length(e.headers::text), 0))
        filter (where e."offset" > $2) over (order by e."offset" rows between unbounded preceding and 1 preceding), 0) as bytes_before
      -- offsets are dense, so the range alone bounds the page, whatever plan is chosen; the rows of what was trimmed
      -- may still be there, and are no events any more
      from ${schema}.events e
      where e.stream_id = s.id and e."offset" between $2::bigint and $3::bigint and e."offset" > s.trimmed_to
    ) p where p.bytes_before < $4
  ) e on true
  where ${condition} order by e."offset"`;

/**
 * Reads by name (whatever incarnation there is now) or one incarnation of it. Never by a number alone: after a failover
 * that lost the creation of a stream, its number can be given to another.
 */
export interface PageRequest {
  readonly stream: string | StreamIdentity;
  readonly offset: bigint;
  readonly limit?: number | undefined;
  readonly maxBytes?: number | undefined;
  /** Read only from a standby of the database of this identity (see standby.ts). */
  readonly standbyOf?: string | undefined;
}

/** Undefined: there is no such stream; or the server is no such standby. */
export async function readPage(database: Database, request: PageRequest): Promise<Page | undefined> {
  const { stream, offset, limit = MAX_PAGE_EVENTS, maxBytes = MAX_PAGE_BYTES, standbyOf } = request;
  const to = offset + BigInt(limit);
  const bounds = [String(offset), String(to < MAX_OFFSET ? to : MAX_OFFSET), maxBytes];
  const [condition, values] =
    typeof stream === 'string'
      ? ['s.name = $1', [stream, ...bounds]]
      : ['s.id = $1 and s.name = $5', [String(stream.incarnation), ...bounds, stream.name]];
  const kind = typeof stream === 'string' ? 'name' : 'id';
  const { quoted } = database.names;
  const rows =
    standbyOf === undefined
      ? await database.rows<Row>(statement(quoted, condition), values, `sluice_read_by_${kind}`)
      : await database.rows<Row>(
          statement(quoted, `${condition} and ${isStandbyOf(`$${values.length + 1}`)}`),
          [...values, standbyOf],
          `sluice_read_standby_by_${kind}`,
        );
  const first = rows[0];
  if (!first) return undefined;
  return {
    state: toState(first),
    rows: rows.filter((row) => row[6] !== null).map((row) => recordOf(row.slice(6) as EventColumns)),
  };
}

const toState = ([id, trimmedTo, trimmedTag, closed, head, headTag]: Row): StreamState => ({
  incarnation: BigInt(id),
  trimmedTo: BigInt(trimmedTo),
  trimmedTag,
  closed,
  head: BigInt(head),
  headTag,
});

export function recordOf(columns: EventColumns): EventRecord {
  const [offset, tag, atMs, type, key, visibleTo, exclude, headers, data] = columns;
  const event = { type, key, visibleTo, exclude, headers, data };
  return toRecord(event, BigInt(offset), tag, Math.floor(atMs));
}
