// The watermark of a page: where several streams end now, as one cursor. Offsets follow the order of commits, so what is
// still on its way when it is taken comes to stand behind it, and nothing can slip in before it.
import type { Database } from '../db/database.ts';
import { encodeCursor, MAX_CURSOR_POSITIONS, NOT_YET, type CursorPosition } from '../protocol/cursor.ts';

/** @throws RangeError for no stream, or more than a cursor holds */
export async function takeWatermark(database: Database, streams: readonly string[]): Promise<string> {
  const names = [...new Set(streams)];
  if (names.length === 0 || names.length > MAX_CURSOR_POSITIONS) {
    throw new RangeError(`${names.length} streams are named; give 1 to ${MAX_CURSOR_POSITIONS}`);
  }
  const heads = await headsOf(database, names);
  if (heads.length === 0) return 'start'; // none of them exists: for each, that is its beginning
  return encodeCursor(heads.length < names.length ? [...heads, NOT_YET] : heads);
}

async function headsOf(database: Database, names: readonly string[]): Promise<CursorPosition[]> {
  const { quoted } = database.names;
  const rows = await database.rows<[string, string, number]>(
    `select s.id::text, coalesce(h."offset", s.trimmed_to)::text, coalesce(h.tag, s.trimmed_tag)
     from ${quoted}.streams s
     left join lateral (
       select "offset", tag from ${quoted}.events
       where stream_id = s.id and "offset" > s.trimmed_to order by "offset" desc limit 1
     ) h on true
     where s.name = any ($1)`,
    [names],
    'sluice_watermark',
  );
  return rows.map(([id, offset, tag]) => ({ incarnation: BigInt(id), offset: BigInt(offset), tag }));
}
