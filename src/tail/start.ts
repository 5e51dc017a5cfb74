// Where a reader starts: turns `after` into a place in the stream's present history, or into the loss that says why
// there is none. One read answers for the place, the stream's state and the first page.
import type { Database } from '../db/database.ts';
import type { EventRecord } from '../log/event.ts';
import { headStanding, locate, oldestStanding, type Standing, type StreamState } from '../log/locate.ts';
import { readPage, type Page } from '../log/read.ts';
import { knowsAbsent, type CursorPosition } from '../protocol/cursor.ts';
import { parsePosition, type ParsedPosition, type Position } from '../protocol/position.ts';
import { SluiceError } from '../util/errors.ts';
import { shown } from '../util/shown.ts';
import { lossOf, type Loss } from './loss.ts';

export type Start =
  | {
      readonly kind: 'ok';
      readonly state: StreamState;
      readonly place: CursorPosition;
      /** What follows the place, up to the limit asked for. */
      readonly events: readonly EventRecord[];
    }
  | { readonly kind: 'lost'; readonly state: StreamState; readonly loss: Loss };

/** @throws SluiceError cursor_invalid */
export function requirePosition(after: Position): ParsedPosition {
  const parsed = parsePosition(after);
  if (parsed) return parsed;
  throw new SluiceError(
    'cursor_invalid',
    `${shown(after)} is not a position; give an offset as a bigint or in digits, a cursor as you received it, 'start' or 'end'`,
  );
}

/** @throws SluiceError stream_not_found */
export async function findStart(
  database: Database,
  stream: string,
  after: ParsedPosition,
  limit: number,
): Promise<Start> {
  const asked = await standingAt(database, stream, after);
  const page = await pageOf(database, stream, { offset: asked?.offset ?? 0n, limit });
  const { state } = page;
  // The start of a trimmed stream, and its end, are known only now; what follows the start may need another page.
  if (after.kind === 'end') return { kind: 'ok', state, place: headStanding(state), events: [] };
  const standing: Standing = asked ?? oldestStanding(state);
  const rows = standing.offset === (asked?.offset ?? 0n) ? page.rows : [];
  if (rows.length === 0 && standing.offset > 0n && !asked && limit > 0 && state.head > standing.offset) {
    const next = await findStart(
      database,
      stream,
      { kind: 'cursor', positions: [oldestStanding(state)] },
      limit,
    );
    const isTrimmedAgain = next.kind === 'lost' && next.loss.kind === 'gap';
    return isTrimmedAgain ? findStart(database, stream, after, limit) : next;
  }
  const located = locate(state, standing, rows);
  if (located.kind !== 'ok')
    return { kind: 'lost', state, loss: lossOf(stream, standing.offset, state, located) };
  const tag = standing.offset === state.trimmedTo ? state.trimmedTag : (rows[0]?.tag ?? 0);
  const place = { incarnation: state.incarnation, offset: standing.offset, tag };
  return { kind: 'ok', state, place, events: located.events.slice(0, limit) };
}

async function standingAt(
  database: Database,
  stream: string,
  after: ParsedPosition,
): Promise<Standing | undefined> {
  if (after.kind === 'offset') return { offset: after.offset };
  if (after.kind !== 'cursor') return undefined;
  const startsAbsent = knowsAbsent(after.positions);
  if (after.positions.length === 1) return startsAbsent ? undefined : after.positions[0];
  const { state } = await pageOf(database, stream, { offset: 0n, limit: 0 });
  const position = after.positions.find(({ incarnation }) => incarnation === state.incarnation);
  if (position) return position;
  if (startsAbsent) return undefined;
  throw new SluiceError('cursor_invalid', `the cursor has no position in stream ${JSON.stringify(stream)}`);
}

async function pageOf(
  database: Database,
  stream: string,
  at: { offset: bigint; limit: number },
): Promise<Page> {
  const page = await readPage(database, { stream, ...at });
  if (page) return page;
  const missing = `stream ${JSON.stringify(stream)} does not exist`;
  const remedy = 'create it, or append to it (a first publish makes it a moment after its commit)';
  throw new SluiceError('stream_not_found', `${missing}; ${remedy}`);
}
