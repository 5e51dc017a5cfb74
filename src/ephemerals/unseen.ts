// Reading what was broadcast since the last reading, each message once, whatever order its transactions committed in.
// Two snapshots of the server bound a reading: what the one could not see yet and the other can is new. No number that
// a writer assigns could say that, since numbers are given out before the commit. Paged, so bounded in memory.
import type { Database } from '../db/database.ts';

/** Messages in one page, of at most 64 KiB each, as broadcast and announce_presence see to. */
const PAGE = 100;
/** With more streams than this, all messages are read and chosen from here. */
const MAX_NAMED_STREAMS = 500;
/** What is older has been sent too long ago to be of interest; it is on its way to be truncated. */
const MAX_AGE_S = 10;

export interface Ephemeral {
  readonly stream: string;
  readonly type: string | null;
  /** The label of its audience; null: everybody. */
  readonly visibleTo: string | null;
  /** The connection that need not be told. */
  readonly exclude: string | null;
  /** JSON text. */
  readonly data: string;
}

/** How far a reader has got. */
export interface Progress {
  /** What this snapshot sees has been read. */
  readonly since: string;
  /** In the middle of a reading: where it ends, and its last message. */
  readonly page?: { readonly until: string; readonly xid: string; readonly id: string };
}

type Row = [
  until: string,
  xid: string | null,
  id: string,
  stream: string,
  type: string | null,
  visibleTo: string | null,
  exclude: string | null,
  data: string,
];

/** A beginning: what is broadcast from now on. */
export async function startReading(database: Database): Promise<Progress> {
  const [row] = await database.rows<[string]>('select pg_current_snapshot()::text', [], 'sluice_snapshot');
  return { since: row?.[0] ?? '' };
}

/** One page of what is new, and the progress after it; a progress without `page` is at the end. */
export async function readUnseen(
  database: Database,
  { since, page }: Progress,
  streams: readonly string[],
): Promise<{ readonly messages: Ephemeral[]; readonly progress: Progress }> {
  const rows = await database.rows<Row>(
    // A server whose transactions have not come as far as the last snapshot is another one, restored or promoted while it
    // was behind: nothing that is in its table has been read.
    `with bounds as materialized (
       select u.until, case when pg_snapshot_xmax($1::text::pg_snapshot) > pg_snapshot_xmax(u.until)
         then '1:1:'::pg_snapshot else $1::text::pg_snapshot end as since
       from (select coalesce($2::text::pg_snapshot, pg_current_snapshot()) as until) u
     )
     select b.until::text, e.xid::text, e.id::text, e.stream, e.type, e.visible_to, e.exclude::text, e.data::text
     from bounds b left join lateral (
       select * from ${database.names.quoted}.ephemerals e
       where e.xid >= pg_snapshot_xmin(b.since) and not pg_visible_in_snapshot(e.xid, b.since)
         and pg_visible_in_snapshot(e.xid, b.until) and (e.xid, e.id) > ($3::text::xid8, $4::bigint)
         and e.at > clock_timestamp() - make_interval(secs => ${MAX_AGE_S})
         and ($5::text[] is null or e.stream = any ($5))
       order by e.xid, e.id limit ${PAGE}
     ) e on true
     order by e.xid, e.id`,
    [
      since,
      page?.until ?? null,
      page?.xid ?? '0',
      page?.id ?? '0',
      streams.length > MAX_NAMED_STREAMS ? null : streams,
    ],
    'sluice_ephemerals',
  );
  const until = rows[0]?.[0] ?? since;
  const last = rows.length === PAGE ? rows.at(-1) : undefined;
  return {
    messages: rows.flatMap(([, xid, , stream, type, visibleTo, exclude, data]) =>
      xid === null ? [] : [{ stream, type, visibleTo, exclude, data }],
    ),
    progress: last ? { since, page: { until, xid: last[1] ?? '0', id: last[2] } } : { since: until },
  };
}
