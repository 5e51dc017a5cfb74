// Owns what tests of retention look at: where a stream starts, which rows of it lie in the table, and what is still to be
// removed. And the steps that the background takes, one by one, so that a test decides when each happens.
import type { Queries } from './log-sql.ts';

export interface Span {
  /** The last offset that is gone. */
  readonly start: number;
  /** Offsets whose rows are in the table, first and last; null: none. */
  readonly rows: readonly [number, number] | null;
}

export async function spanOf(on: Queries, stream: string): Promise<Span> {
  const { rows } = await on.query<{ start: number; first: number | null; last: number | null }>(
    `select s.trimmed_to::integer as start, min(e."offset")::integer as first, max(e."offset")::integer as last
     from sluice.streams s left join sluice.events e on e.stream_id = s.id where s.name = $1 group by s.id`,
    [stream],
  );
  const { start, first, last } = rows[0]!;
  return { start, rows: first === null || last === null ? null : [first, last] };
}

export async function idOf(on: Queries, stream: string): Promise<string> {
  const { rows } = await on.query<{ id: string }>('select id from sluice.streams where name = $1', [stream]);
  return rows[0]!.id;
}

/** One batch of removal: how many rows went. */
export async function purge(on: Queries, limit = 5000): Promise<number> {
  const { rows } = await on.query<{ removed: number }>('select removed::int from sluice.purge_events($1)', [
    limit,
  ]);
  return rows[0]!.removed;
}

/** Removes everything that is to be removed. */
export async function purgeAll(on: Queries): Promise<void> {
  for (let more = true; more;) {
    const { rows } = await on.query<{ more: boolean }>('select more from sluice.purge_events()');
    more = rows[0]!.more;
  }
}

export interface Retained {
  readonly removed: number;
  readonly more: boolean;
}

/** One step of keeping a stream within its bounds. */
export async function retain(on: Queries, id: string, limit = 20_000, waitMs = 20_000): Promise<Retained> {
  const { rows } = await on.query<Retained>(
    'select removed::int, more from sluice.retain_stream($1, $2, $3)',
    [id, limit, waitMs],
  );
  return rows[0]!;
}

/** Steps until none is needed; how many events went. */
export async function retainAll(on: Queries, id: string, limit?: number): Promise<number> {
  let removed = 0;
  for (let more = true; more;) {
    const step = await retain(on, id, limit);
    removed += step.removed;
    more = step.more;
  }
  return removed;
}
