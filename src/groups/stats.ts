// What groups are at, for people and for metrics.
import type { Database } from '../db/database.ts';
import type { GroupRef } from './store.ts';

export interface GroupStats {
  /** The last offset that was handed out for the first time. */
  readonly cursor: bigint;
  readonly head: bigint;
  /** Events that are not handled yet: in nobody's hands, in flight, or waiting to be retried. */
  readonly lag: number;
  /** How old the oldest of them is, in milliseconds; null: there is none. */
  readonly oldestAgeMs: number | null;
  /** Events under a lease. */
  readonly inFlight: number;
  /** Events that wait to be handed out again. */
  readonly retries: number;
  /** Dead letters. */
  readonly dead: number;
  /** Events that were trimmed before the group had handled them. */
  readonly missed: number;
  /** Consumers on all processes. */
  readonly members: number;
  readonly paused: boolean;
  /** Null: the group is not keyed. */
  readonly partitions: number | null;
  /** Events handed out for the first time, per second over the last half to one minute. */
  readonly rate: number;
}

export interface GroupInfo extends GroupStats {
  readonly stream: string;
  readonly name: string;
}

/** Groups in one statement. */
const PAGE = 500;

interface Row {
  readonly stream: string;
  readonly name: string;
  readonly cursor: string;
  readonly head: string;
  readonly lag: string;
  readonly oldestAgeMs: number | null;
  readonly inFlight: string;
  readonly retries: string;
  readonly dead: string;
  readonly missed: string;
  readonly members: string;
  readonly paused: boolean;
  readonly partitions: number | null;
  readonly rate: number;
}

const COLUMNS = `t."cursor"::text, t.head::text, t.lag::text, t.oldest_age_ms as "oldestAgeMs", t.in_flight::text as "inFlight",
  t.retries::text, t.dead::text, t.missed::text, t.members::text, t.paused, t.partitions, t.rate`;

/** Undefined: the group is gone. */
export async function groupStats(database: Database, { id }: GroupRef): Promise<GroupStats | undefined> {
  const [row] = await database.query<Row>(
    `select ${COLUMNS} from ${database.names.quoted}.group_stats($1) t`,
    [String(id)],
  );
  return row && toStats(row);
}

/** All groups, or those of one stream, by name: one statement. */
export async function* listGroups(
  database: Database,
  stream: string | undefined,
): AsyncGenerator<GroupInfo, void, undefined> {
  let [afterStream, afterName] = ['', ''];
  const { quoted } = database.names;
  for (;;) {
    const rows = await database.query<Row>(
      `select s.name as stream, g.name, ${COLUMNS}
       from ${quoted}.groups g join ${quoted}.streams s on s.id = g.stream_id, ${quoted}.group_stats(g.id) t
       where ($1::text is null or s.name = $1) and (s.name, g.name) > ($2, $3)
       order by s.name, g.name limit ${PAGE}`,
      [stream ?? null, afterStream, afterName],
    );
    for (const row of rows) {
      yield { stream: row.stream, name: row.name, ...toStats(row) };
      [afterStream, afterName] = [row.stream, row.name];
    }
    if (rows.length < PAGE) return;
  }
}

const toStats = (row: Row): GroupStats => ({
  cursor: BigInt(row.cursor),
  head: BigInt(row.head),
  lag: Number(row.lag),
  oldestAgeMs: row.oldestAgeMs,
  inFlight: Number(row.inFlight),
  retries: Number(row.retries),
  dead: Number(row.dead),
  missed: Number(row.missed),
  members: Number(row.members),
  paused: row.paused,
  partitions: row.partitions,
  rate: row.rate,
});
