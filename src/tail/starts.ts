// Where each stream of a connection starts, given one cursor for all of them. A cursor says incarnations and no names: one
// that is not among those asked for belongs to a stream that is not asked for any more, or to one that was deleted and
// made again; the second must be told (I8).
import type { Database } from '../db/database.ts';
import type { CursorPosition } from '../protocol/cursor.ts';
import type { ParsedPosition } from '../protocol/position.ts';

export interface Resume {
  /** As they were received; of two of one name, the first counts. */
  readonly positions: readonly CursorPosition[];
  /** Where a stream starts that the cursor does not know. */
  readonly otherwise: ParsedPosition;
}

/** Without asking the database, where what is in memory says it all. */
export function startsFromMemory(
  streams: readonly string[],
  { positions }: Resume,
  nameOf: (incarnation: bigint) => string | undefined,
): ReadonlyMap<string, ParsedPosition> | undefined {
  const [stream] = streams;
  const [only] = positions;
  if (streams.length === 1 && positions.length === 1 && stream !== undefined && only) {
    return new Map([[stream, at(only)]]);
  }
  const starts = new Map<string, ParsedPosition>();
  for (const position of positions) {
    const name = nameOf(position.incarnation);
    if (name !== undefined && streams.includes(name) && !starts.has(name)) starts.set(name, at(position));
  }
  return starts.size === streams.length ? starts : undefined;
}

/** A position for each of the streams, those that do not exist included: opening them says so. */
export async function findStarts(
  database: Database,
  streams: readonly string[],
  resume: Resume,
): Promise<ReadonlyMap<string, ParsedPosition>> {
  const rows = await database.rows<[string, string]>(
    `select s.id::text, s.name from ${database.names.quoted}.streams s
     where s.name = any ($1) or s.id = any ($2::bigint[])`,
    [streams, resume.positions.map(({ incarnation }) => String(incarnation))],
    'sluice_starts',
  );
  const existing = rows.map(([id, name]) => ({ incarnation: BigInt(id), name }));
  return assignStarts(streams, existing, resume);
}

interface Existing {
  readonly incarnation: bigint;
  readonly name: string;
}

/** Pure. `existing`: of the streams asked for and of those in the cursor, the ones there are. */
export function assignStarts(
  streams: readonly string[],
  existing: readonly Existing[],
  { positions, otherwise }: Resume,
): ReadonlyMap<string, ParsedPosition> {
  const gone = positions.filter(
    ({ incarnation }) => !existing.some((stream) => stream.incarnation === incarnation),
  );
  return new Map(
    streams.map((name) => {
      const incarnation = existing.find((stream) => stream.name === name)?.incarnation;
      const known = positions.find((position) => position.incarnation === incarnation);
      if (known) return [name, at(known)];
      // It may be what one of these was deleted for: then its reader is told, which is better than a silent skip. One that
      // does not exist may, by the time it is opened.
      const before = gone.find((each) => incarnation === undefined || each.incarnation < incarnation);
      return [name, before ? at(before) : otherwise];
    }),
  );
}

const at = (position: CursorPosition): ParsedPosition => ({ kind: 'cursor', positions: [position] });
