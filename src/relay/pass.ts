// One pass over the outbox: calls the SQL function and tells readers what moved. Safe from any number of processes at
// once, so nothing here asks who holds the role.
import type { Database } from '../db/database.ts';
import type { Rung } from '../log/reader-bell.ts';
import { report } from '../util/diagnostics.ts';

/** Events moved per stream in one pass, at most, unless a transaction or a long backlog asks for more. */
const MAX_EVENTS_PER_STREAM = 10_000;
const MAX_STREAMS_PER_PASS = 1000;
/** Streams named in the notification that goes with a pass's commit, which has room for as many. */
const MAX_STREAMS_TOLD = 100;
/** How often a pass looks at all delayed events and not only at those due since the last passes. */
const FULL_LOOK_MS = 5000;

export interface PassResult {
  readonly moved: number;
  /** Something is or may be left: a stream that was held, a long backlog, more streams than one pass takes. */
  readonly more: boolean;
  /** Until the next delayed event is due; null: none waits. */
  readonly dueInMs: number | null;
  /** What it took of the server's time, its commit and the way there not counted. */
  readonly spentMs: number;
}

export interface PassesOptions {
  readonly database: Database;
  /** Runs a statement that commits: `mayRing` says whether its commit may tell readers; `rung`, what it has told them. */
  commit<T>(
    this: void,
    statement: (mayRing: boolean) => Promise<T>,
    rung: (this: void, result: T) => Rung | undefined,
  ): Promise<T>;
  /** Told of every stream that moved, after the commit. `rung`: other processes were told with it. */
  onMoved(this: void, incarnation: bigint, head: bigint, rung: boolean): void;
  /** So many events could not be delivered. */
  onRefused(this: void, count: number): void;
}

interface Row {
  readonly ids: string[];
  readonly heads: string[];
  readonly moved: string;
  readonly refused: string;
  readonly more: boolean;
  readonly next: string;
  readonly dueInMs: number | null;
  readonly dueFrom: number;
  readonly spentMs: number;
  readonly rung: boolean | null;
}

const statement = (schema: string): string =>
  `select stream_ids::text[] as ids, heads::text[] as heads, moved::text, refused::text, more, next_after as next,
     due_in_ms as "dueInMs", date_part('epoch', due_from) - 0.001 as "dueFrom", spent_ms as "spentMs",
     case when cardinality(stream_ids) between 1 and $5 then ${schema}.ring_readers(
       (select string_agg(id || ':' || head, ',') from unnest(stream_ids, heads) stream (id, head))) end as rung
   from ${schema}.pass($1, $2, $3, to_timestamp($4))`;

export class Passes {
  readonly #options: PassesOptions;
  #lookedAt = -Infinity;
  #dueFrom = -Infinity; // seconds since 1970, by the server's clock
  #after = ''; // where the next pass starts, so that held streams cannot starve those behind them

  constructor(options: PassesOptions) {
    this.#options = options;
  }

  async run(by: 'relay' | 'poll'): Promise<PassResult> {
    const started = performance.now();
    const full = started - this.#lookedAt >= FULL_LOOK_MS;
    const { database, commit, onMoved, onRefused } = this.#options;
    const from = full ? -Infinity : this.#dueFrom;
    const values = [MAX_EVENTS_PER_STREAM, MAX_STREAMS_PER_PASS, this.#after, from];
    const [row] = await commit(
      async (mayRing) =>
        database.query<Row>(
          statement(database.names.quoted),
          [...values, mayRing ? MAX_STREAMS_TOLD : 0],
          'sluice_pass',
        ),
      ([passed]) =>
        passed?.rung === true ? { streams: passed.ids.length, events: Number(passed.moved) } : undefined,
    );
    if (!row) return { moved: 0, more: false, dueInMs: null, spentMs: 0 };
    if (full) this.#lookedAt = started;
    this.#dueFrom = row.dueFrom;
    this.#after = row.next;
    for (const [index, id] of row.ids.entries())
      onMoved(BigInt(id), BigInt(row.heads[index] ?? '0'), row.rung === true);
    if (row.refused !== '0') onRefused(Number(row.refused));
    const moved = Number(row.moved);
    if (moved > 0 || row.more) {
      report('sluice:relay.passed', () => ({ moved, more: row.more, ms: performance.now() - started, by }));
    }
    return { moved, more: row.more, dueInMs: row.dueInMs, spentMs: row.spentMs };
  }
}
