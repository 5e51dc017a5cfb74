// Streams as such: create, delete, list, describe; and what could not be delivered. Statements beside the code that
// maps their rows.
import type { Database } from '../db/database.ts';
import { SluiceError } from '../util/errors.ts';
import type { NewEvent } from './encode.ts';

export interface StreamInfo {
  readonly name: string;
  readonly head: bigint;
  /** The oldest offset that can be read; `head + 1` when there is none. */
  readonly oldest: bigint;
  readonly createdAt: Date;
  readonly closed: boolean;
}

/** An event that was published, and whose stream was closed or deleted before it could be moved into the log. */
export interface Undeliverable extends NewEvent {
  readonly id: string;
  readonly stream: string;
  readonly reason: 'stream_closed' | 'stream_deleted';
  readonly publishedAt: Date;
}

interface InfoRow {
  name: string;
  head: string;
  oldest: string;
  created_at: Date;
  closed: boolean;
}

const LIST_PAGE = 500;

const info = (schema: string): string => `
  select s.name, coalesce(h."offset", s.trimmed_to)::text as head, (s.trimmed_to + 1)::text as oldest, s.created_at,
    s.closed_at is not null as closed
  from ${schema}.streams s
  left join lateral (
    select "offset" from ${schema}.events
    where stream_id = s.id and "offset" > s.trimmed_to order by "offset" desc limit 1
  ) h on true`;

const toInfo = ({ name, head, oldest, created_at, closed }: InfoRow): StreamInfo => ({
  name,
  head: BigInt(head),
  oldest: BigInt(oldest),
  createdAt: created_at,
  closed,
});

export async function createStream(database: Database, name: string): Promise<StreamInfo> {
  await database.query(`select ${database.names.quoted}.create_stream($1)`, [name]);
  const created = await streamInfo(database, name);
  if (!created)
    throw new SluiceError(
      'stream_not_found',
      `stream ${JSON.stringify(name)} was deleted while it was created`,
    );
  return created;
}

/** The incarnation deleted; undefined if there was no such stream. */
export async function deleteStream(database: Database, name: string): Promise<bigint | undefined> {
  const [row] = await database.query<{ id: string | null }>(
    `select ${database.names.quoted}.delete_stream($1)::text as id`,
    [name],
  );
  return row?.id === null || row === undefined ? undefined : BigInt(row.id);
}

export async function streamInfo(database: Database, name: string): Promise<StreamInfo | null> {
  const [row] = await database.query<InfoRow>(
    `${info(database.names.quoted)} where s.name = $1`,
    [name],
    'sluice_info',
  );
  return row ? toInfo(row) : null;
}

/** All streams whose name starts with the prefix, in order of their names (bytewise), in keyset pages. */
export async function* listStreams(
  database: Database,
  prefix: string,
): AsyncGenerator<StreamInfo, void, undefined> {
  let after: string | null = null;
  for (;;) {
    const rows: InfoRow[] = await database.query<InfoRow>(
      `${info(database.names.quoted)}
       where s.name >= $1 and starts_with(s.name, $1) and ($2::text is null or s.name > $2)
       order by s.name limit ${LIST_PAGE}`,
      [prefix, after],
    );
    yield* rows.map(toInfo);
    if (rows.length < LIST_PAGE) return;
    after = rows.at(-1)?.name ?? null;
  }
}

interface UndeliverableRow {
  id: string;
  stream: string;
  reason: Undeliverable['reason'];
  published_at: Date;
  type: string | null;
  key: string | null;
  headers: string | null;
  data: string;
}

/** Oldest first, in keyset pages. */
export async function* listUndeliverable(database: Database): AsyncGenerator<Undeliverable, void, undefined> {
  let after = '0';
  for (;;) {
    const rows: UndeliverableRow[] = await database.query<UndeliverableRow>(
      `select id::text, stream, reason, published_at, type, key, headers::text, data::text
       from ${database.names.quoted}.undeliverable where id > $1 order by id limit ${LIST_PAGE}`,
      [after],
    );
    yield* rows.map(toUndeliverable);
    if (rows.length < LIST_PAGE) return;
    after = rows.at(-1)?.id ?? after;
  }
}

const toUndeliverable = (row: UndeliverableRow): Undeliverable => ({
  id: row.id,
  stream: row.stream,
  reason: row.reason,
  publishedAt: row.published_at,
  data: JSON.parse(row.data) as unknown,
  ...(row.type === null ? {} : { type: row.type }),
  ...(row.key === null ? {} : { key: row.key }),
  ...(row.headers === null ? {} : { headers: JSON.parse(row.headers) as Record<string, string> }),
});
