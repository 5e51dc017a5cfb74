// How far groups have come, as told by a few rows of each: for whoever asks often. Everything else that groups are at
// takes counting (stats.ts).
import type { Database } from '../db/database.ts';

export interface GroupPosition {
  readonly stream: string;
  readonly group: string;
  /** Events that nobody was handed yet; in a keyed group, that were not dealt out to its partitions yet. */
  readonly unclaimed: number;
  /** How old the first of them is, in milliseconds; 0 without any. */
  readonly ageMs: number;
  readonly paused: boolean;
}

type Row = [stream: string, group: string, unclaimed: string, ageMs: number, paused: boolean];

/** Of those of the groups that are there still. A few index entries for each. */
export async function groupPositions(
  database: Database,
  groups: readonly bigint[],
): Promise<GroupPosition[]> {
  const { quoted } = database.names;
  const rows = await database.rows<Row>(
    `select s.name, g.name, (greatest(h.head, p.at) - p.at)::text,
       coalesce(greatest(date_part('epoch', clock_timestamp() - e.at) * 1000, 0), 0), g.paused_at is not null
     from ${quoted}.groups g join ${quoted}.streams s on s.id = g.stream_id
     cross join lateral (
       select greatest(t."offset", s.trimmed_to) as at from ${quoted}.group_states t
       where t.group_id = g.id order by t.seq desc limit 1
     ) p
     cross join lateral (
       select coalesce((select x."offset" from ${quoted}.events x
         where x.stream_id = s.id and x."offset" > s.trimmed_to order by x."offset" desc limit 1), s.trimmed_to) as head
     ) h
     left join ${quoted}.events e on e.stream_id = s.id and e."offset" = p.at + 1
     where g.id = any ($1::bigint[])`,
    [groups.map(String)],
    'sluice_group_positions',
  );
  return rows.map(([stream, group, unclaimed, ageMs, paused]) => ({
    stream,
    group,
    unclaimed: Number(unclaimed),
    ageMs,
    paused,
  }));
}
