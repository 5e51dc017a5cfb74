// Whether a page of a stream continues a reader's history, decided from what one statement read. Pure, and the only
// judge of I8: gap (the history is gone), reset (another history), or fine. Every page read includes the row the
// reader stands on, so tag and density are checked on live streams as well as on resume.
import type { CursorPosition } from '../protocol/cursor.ts';
import type { EventRecord } from './event.ts';

/** The state of a stream in the same snapshot as the page. */
export interface StreamState {
  readonly incarnation: bigint;
  readonly trimmedTo: bigint;
  readonly trimmedTag: number;
  readonly closed: boolean;
  readonly head: bigint;
  readonly headTag: number;
}

/** Where a reader stands. Without a tag (a bare offset) only the place is checked, not the history. */
export interface Standing {
  readonly offset: bigint;
  readonly tag?: number | undefined;
  readonly incarnation?: bigint | undefined;
}

export type ResetReason = 'recreated' | 'future' | 'history';

export type Located =
  | { readonly kind: 'ok'; readonly events: readonly EventRecord[] }
  | { readonly kind: 'gap' }
  | { readonly kind: 'reset'; readonly reason: ResetReason };

/** `rows` are the events from `standing.offset` on, the one at it included if it is there. */
export function locate(state: StreamState, standing: Standing, rows: readonly EventRecord[]): Located {
  const { offset, tag, incarnation } = standing;
  if (incarnation !== undefined && incarnation !== state.incarnation)
    return { kind: 'reset', reason: 'recreated' };
  if (offset > state.head) return { kind: 'reset', reason: 'future' };
  if (offset < state.trimmedTo) return { kind: 'gap' };
  const inLog = offset > state.trimmedTo;
  const known = inLog ? rows[0]?.tag : state.trimmedTag;
  if (inLog && rows[0]?.offset !== offset) return { kind: 'reset', reason: 'history' };
  if (offset > 0n && tag !== undefined && tag !== known) return { kind: 'reset', reason: 'history' };
  const events = inLog ? rows.slice(1) : rows;
  return events.every((event, index) => event.offset === offset + 1n + BigInt(index))
    ? { kind: 'ok', events }
    : { kind: 'reset', reason: 'history' };
}

/** Just before the oldest event there is. */
export const oldestStanding = (state: StreamState): CursorPosition => ({
  incarnation: state.incarnation,
  offset: state.trimmedTo,
  tag: state.trimmedTag,
});

/** At the last event there is. */
export const headStanding = (state: StreamState): CursorPosition => ({
  incarnation: state.incarnation,
  offset: state.head,
  tag: state.headTag,
});
