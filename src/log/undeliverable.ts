// What could not be delivered: published events whose stream was closed or deleted before they were moved. Listed and
// dropped; what puts them there is the pass, in SQL.
import type { Database } from '../db/database.ts';
import { throwIfAborted } from '../util/abort.ts';
import { shown } from '../util/shown.ts';
import type { NewEvent } from './encode.ts';
import { MAX_OFFSET } from './event.ts';

/** Read or dropped in one statement, at most. */
const PAGE = 500;

/** An event that was published, and whose stream was closed or deleted before it could be moved into the log. */
export interface Undeliverable extends NewEvent {
  readonly id: string;
  readonly stream: string;
  readonly reason: 'stream_closed' | 'stream_deleted';
  readonly publishedAt: Date;
}

// The time is a number: how it is written is the session's to say, and how it is read, the program's (pg's type parsers).
interface UndeliverableRow {
  id: string;
  stream: string;
  reason: Undeliverable['reason'];
  published_ms: number;
  type: string | null;
  key: string | null;
  visible_to: string | null;
  exclude: string | null;
  headers: string | null;
  data: string;
}

/** Oldest first, in keyset pages. (`order by id` alone would be by the text that is selected.) */
export async function* listUndeliverable(database: Database): AsyncGenerator<Undeliverable, void, undefined> {
  let after = '0';
  for (;;) {
    const rows: UndeliverableRow[] = await database.query<UndeliverableRow>(
      `select id::text, stream, reason, date_part('epoch', published_at) * 1000 as published_ms, type, key,
         visible_to, exclude::text, headers::text, data::text
       from ${database.names.quoted}.undeliverable u where u.id > $1 order by u.id limit ${PAGE}`,
      [after],
    );
    yield* rows.map(toUndeliverable);
    if (rows.length < PAGE) return;
    after = rows.at(-1)?.id ?? after;
  }
}

const toUndeliverable = (row: UndeliverableRow): Undeliverable => ({
  id: row.id,
  stream: row.stream,
  reason: row.reason,
  publishedAt: new Date(row.published_ms),
  data: JSON.parse(row.data) as unknown,
  ...(row.type === null ? {} : { type: row.type }),
  ...(row.key === null ? {} : { key: row.key }),
  ...(row.visible_to === null ? {} : { visibleTo: row.visible_to }),
  ...(row.exclude === null ? {} : { exclude: row.exclude }),
  ...(row.headers === null ? {} : { headers: JSON.parse(row.headers) as Record<string, string> }),
});

/**
 * Those with the ids, or all up to the newest that there is now, some at a time: others may come for ever, and have higher
 * ids (but for those of a pass that was under way). How many there were.
 */
export async function dropUndeliverable(
  database: Database,
  ids: readonly string[] | undefined,
  signal: AbortSignal | undefined,
): Promise<number> {
  const named = ids === undefined ? undefined : requireIds(ids);
  let total = 0;
  for await (const page of named ? inPages(named) : pagesOfAll(database)) {
    throwIfAborted(signal);
    const [row] = await database.query<{ count: string }>(
      `select ${database.names.quoted}.drop_undeliverable($1::bigint[], ${PAGE})::text as count`,
      [page],
    );
    total += Number(row?.count ?? 0);
  }
  return total;
}

function* inPages(ids: readonly string[]): Generator<readonly string[], void, undefined> {
  for (let from = 0; from < ids.length; from += PAGE) yield ids.slice(from, from + PAGE);
}

async function* pagesOfAll(database: Database): AsyncGenerator<readonly string[], void, undefined> {
  const table = `${database.names.quoted}.undeliverable`;
  const [newest] = await database.query<{ id: string }>(
    `select id::text from ${table} u order by u.id desc limit 1`,
  );
  if (!newest) return;
  for (let after = '0'; ;) {
    const rows: { id: string }[] = await database.query<{ id: string }>(
      `select id::text from ${table} u where u.id > $1 and u.id <= $2 order by u.id limit ${PAGE}`,
      [after, newest.id],
    );
    if (rows.length > 0) yield rows.map(({ id }) => id);
    if (rows.length < PAGE) return;
    after = rows.at(-1)?.id ?? after;
  }
}

/** Null is not undefined here: a value that got lost on the way must not mean all of them. */
function requireIds(ids: readonly string[]): readonly string[] {
  if (Array.isArray(ids)) return Array.from(ids as readonly string[], requireId);
  throw new TypeError(`ids is ${shown(ids)}; give an array of strings, or leave it out for all`);
}

function requireId(id: string): string {
  if (typeof id === 'string' && /^\d{1,19}$/.test(id) && BigInt(id) <= MAX_OFFSET) return id;
  throw new TypeError(`${shown(id)} is no id; give ids of undeliverable events, as decimal strings`);
}
