// Owns the log as anybody with SQL sees it: publish, pass and append by calling the functions, and what lies in the
// tables. For tests of sql/ that need no process of Sluice, or must hold a transaction open at a certain place.
import type { QueryResult, QueryResultRow } from 'pg';

/** A pool, a client, or the database of a test file. */
export interface Queries {
  query<R extends QueryResultRow>(text: string, values?: unknown[]): Promise<QueryResult<R>>;
}

/** Publishes JSON texts to a stream, each by a call of its own. */
export async function publish(
  on: Queries,
  stream: string,
  ...data: readonly (string | number)[]
): Promise<void> {
  for (const each of data) await on.query('select sluice.publish($1, $2)', [stream, String(each)]);
}

export interface Passed {
  readonly ids: string[];
  readonly heads: string[];
  readonly moved: number;
  readonly more: boolean;
  readonly next: string;
}

export interface PassOptions {
  readonly limit?: number | undefined;
  readonly maxStreams?: number | undefined;
  readonly after?: string | undefined;
}

export async function pass(on: Queries, options: PassOptions = {}): Promise<Passed> {
  const { limit = 10_000, maxStreams = 1000, after = '' } = options;
  const { rows } = await on.query<Passed>(
    `select stream_ids::text[] as ids, heads::text[] as heads, moved::int, more, next_after as next
     from sluice.pass($1, $2, $3)`,
    [limit, maxStreams, after],
  );
  return rows[0]!;
}

/** Passes until one says that nothing is left. */
export async function passAll(on: Queries, options: PassOptions = {}): Promise<number> {
  let moved = 0;
  for (let after = options.after ?? ''; ;) {
    const passed = await pass(on, { ...options, after });
    moved += passed.moved;
    after = passed.next;
    if (!passed.more) return moved;
  }
}

/** The data of a stream's events in order, as JSON texts; checks that the offsets are dense. */
export async function logOf(on: Queries, stream: string): Promise<string[]> {
  const { rows } = await on.query<{ offset: string; data: string }>(
    `select e."offset"::text, e.data::text from sluice.events e join sluice.streams s on s.id = e.stream_id
     where s.name = $1 order by e."offset"`,
    [stream],
  );
  const first = BigInt(rows[0]?.offset ?? 1);
  for (const [index, { offset }] of rows.entries()) {
    if (BigInt(offset) !== first + BigInt(index))
      throw new Error(`${stream} has a gap before offset ${offset}`);
  }
  return rows.map(({ data }) => data);
}

/** How many published events are not moved yet. */
export async function pendingIn(on: Queries, stream?: string): Promise<number> {
  const { rows } = await on.query<{ count: number }>(
    'select count(*)::int as count from sluice.outbox where $1::text is null or stream = $1',
    [stream ?? null],
  );
  return rows[0]!.count;
}

/** What could not be delivered to a stream, as `reason:data`, oldest first. */
export async function undeliverableTo(on: Queries, stream: string): Promise<string[]> {
  const { rows } = await on.query<{ entry: string }>(
    `select reason || ':' || data::text as entry from sluice.undeliverable where stream = $1 order by id`,
    [stream],
  );
  return rows.map(({ entry }) => entry);
}

/** The backend of a client. */
export async function backendOf(on: Queries): Promise<number> {
  const { rows } = await on.query<{ pid: number }>('select pg_backend_pid() as pid');
  return rows[0]!.pid;
}

/** Whether a backend waits for a lock that another one holds. */
export async function isBlocked(on: Queries, pid: number): Promise<boolean> {
  const { rows } = await on.query<{ blocked: boolean }>(
    'select cardinality(pg_blocking_pids($1)) > 0 as blocked',
    [pid],
  );
  return rows[0]!.blocked;
}
