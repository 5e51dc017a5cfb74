// Events of a group that were given up: looked at, handed out again, or dropped.
import type { Database } from '../db/database.ts';
import { timestamp } from '../db/timestamp.ts';
import { MAX_OFFSET, toStreamEvent, type StreamEvent } from '../log/event.ts';
import { eventColumns, recordOf, type EventColumns } from '../log/read.ts';
import { shown } from '../util/shown.ts';
import type { GroupRef } from './store.ts';

/** Read, requeued or dropped in one statement, at most. */
const PAGE = 500;

export interface DeadLetter<T = unknown> {
  readonly event: StreamEvent<T>;
  /** How often it was handed out. */
  readonly attempts: number;
  /** What its last failure said. */
  readonly error: string | null;
  /** When it was given up. */
  readonly at: Date;
}

export interface DeadLetterFilter {
  /** Given up since. */
  readonly since?: Date | undefined;
  /** Of events with this key. */
  readonly key?: string | undefined;
  /** Of events of this type. */
  readonly type?: string | undefined;
  /** Whose error has this text in it. */
  readonly error?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface DeadLetters<T> {
  /** In the order of their offsets. */
  list(options?: DeadLetterFilter): AsyncIterable<DeadLetter<T>>;
  /**
   * Hands them out again, as if they had never failed: those at the offsets, or all. Those whose event was trimmed stay.
   * Returns how many went.
   */
  requeue(options?: { readonly offsets?: readonly bigint[] | undefined }): Promise<number>;
  /** Removes those at the offsets, or all. Returns how many. */
  drop(options?: { readonly offsets?: readonly bigint[] | undefined }): Promise<number>;
}

type Row = [...EventColumns, number, string | null, number];

export async function* listDead<T>(
  database: Database,
  group: GroupRef,
  { since, key, type, error }: DeadLetterFilter,
): AsyncGenerator<DeadLetter<T>, void, undefined> {
  let after = 0n;
  for (;;) {
    const rows = await database.rows<Row>(
      `select ${eventColumns('d')}, d.attempts, d.error, date_part('epoch', d.died_at) * 1000
       from ${database.names.quoted}.dead_letters d
       where d.group_id = $1 and d."offset" > $2 and ($3::timestamptz is null or d.died_at >= $3)
         and ($4::text is null or d.key = $4) and ($5::text is null or d.type = $5)
         and ($6::text is null or strpos(d.error, $6) > 0)
       order by d."offset" limit ${PAGE}`,
      [
        String(group.id),
        String(after),
        since === undefined ? null : timestamp('since', since),
        key ?? null,
        type ?? null,
        error ?? null,
      ],
      'sluice_dead_letters',
    );
    for (const row of rows) {
      const record = recordOf(row as unknown as EventColumns);
      after = record.offset;
      yield {
        event: toStreamEvent<T>(group.stream, record),
        attempts: row[9],
        error: row[10],
        at: new Date(row[11]),
      };
    }
    if (rows.length < PAGE) return;
  }
}

/**
 * Requeues or drops those at the offsets, or all that there are now, some at a time, and none of them twice: what dies again
 * meanwhile is left. How many there were.
 */
export async function takeDead(
  database: Database,
  {
    group,
    action,
    offsets,
  }: {
    readonly group: GroupRef;
    readonly action: 'requeue_dead' | 'drop_dead';
    readonly offsets: readonly bigint[] | undefined;
  },
): Promise<number> {
  const named = offsets === undefined ? undefined : requireArray(offsets).map(requireOffset);
  let total = 0;
  for await (const page of named ? inPages(named) : pagesOfDead(database, group)) {
    const [row] = await database.query<{ count: string }>(
      `select ${database.names.quoted}.${action}($1, $2::bigint[], $3)::text as count`,
      [String(group.id), page, PAGE],
    );
    total += Number(row?.count ?? 0);
  }
  return total;
}

function* inPages(offsets: readonly string[]): Generator<readonly string[], void, undefined> {
  for (let from = 0; from < offsets.length; from += PAGE) yield offsets.slice(from, from + PAGE);
}

/** The offsets of all dead letters that there are at the beginning, in order. */
async function* pagesOfDead(
  database: Database,
  { id }: GroupRef,
): AsyncGenerator<readonly string[], void, undefined> {
  const dead = `${database.names.quoted}.dead_letters d where d.group_id = $1`;
  const [newest] = await database.query<{ offset: string }>(
    `select d."offset"::text as "offset" from ${dead} order by d."offset" desc limit 1`,
    [String(id)],
  );
  if (!newest) return;
  for (let after = '0'; ;) {
    const rows = await database.rows<[offset: string]>(
      `select d."offset"::text from ${dead} and d."offset" > $2 and d."offset" <= $3 order by d."offset" limit ${PAGE}`,
      [String(id), after, newest.offset],
      'sluice_dead_offsets',
    );
    const page = rows.map(([offset]) => offset);
    if (page.length > 0) yield page;
    if (page.length < PAGE) return;
    after = page.at(-1) ?? after;
  }
}

/** Null is not undefined here: a value that got lost on the way must not mean all of them. */
function requireArray(offsets: readonly bigint[]): readonly bigint[] {
  if (Array.isArray(offsets)) return offsets;
  throw new TypeError(`offsets is ${shown(offsets)}; give an array of bigint, or leave it out for all`);
}

function requireOffset(offset: bigint): string {
  if (typeof offset === 'bigint' && offset > 0n && offset <= MAX_OFFSET) return String(offset);
  throw new RangeError(`${shown(offset)} is no offset; give offsets of dead letters, as bigint`);
}
