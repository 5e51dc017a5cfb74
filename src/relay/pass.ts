// One pass over the outbox: calls the SQL function and tells readers what moved. Safe from any number of processes at
// once, so nothing here asks who holds the role.
import type { Database } from '../db/database.ts';
import { report } from '../util/diagnostics.ts';

/** Events moved per stream in one pass, at most, unless a transaction or a long backlog asks for more. */
const MAX_EVENTS_PER_STREAM = 10_000;
const MAX_STREAMS_PER_PASS = 1000;

export interface PassResult {
  readonly moved: number;
  /** Something is or may be left: a stream that was held, a long backlog, more streams than one pass takes. */
  readonly more: boolean;
}

/** Told of every stream that moved, after the commit. */
export type OnMoved = (incarnation: bigint, head: bigint) => void;

interface Row {
  readonly ids: string[];
  readonly heads: string[];
  readonly moved: string;
  readonly refused: string;
  readonly more: boolean;
  readonly next: string;
}

export class Passes {
  readonly #database: Database;
  readonly #onMoved: OnMoved;
  readonly #onRefused: (count: number) => void;
  #after = ''; // where the next pass starts, so that held streams cannot starve those behind them

  constructor(database: Database, onMoved: OnMoved, onRefused: (count: number) => void) {
    this.#database = database;
    this.#onMoved = onMoved;
    this.#onRefused = onRefused;
  }

  async run(by: 'relay' | 'poll'): Promise<PassResult> {
    const started = performance.now();
    const [row] = await this.#database.query<Row>(
      `select stream_ids::text[] as ids, heads::text[] as heads, moved::text, refused::text, more, next_after as next
       from ${this.#database.names.quoted}.pass($1, $2, $3)`,
      [MAX_EVENTS_PER_STREAM, MAX_STREAMS_PER_PASS, this.#after],
      'sluice_pass',
    );
    if (!row) return { moved: 0, more: false };
    this.#after = row.next;
    for (const [index, id] of row.ids.entries()) this.#onMoved(BigInt(id), BigInt(row.heads[index] ?? '0'));
    if (row.refused !== '0') this.#onRefused(Number(row.refused));
    const moved = Number(row.moved);
    if (moved > 0 || row.more) {
      report('sluice:relay.passed', () => ({ moved, more: row.more, ms: performance.now() - started, by }));
    }
    return { moved, more: row.more };
  }
}
