// History that a reader asked for and cannot have, said once and in full: what happened, and where it can go on (I8).
import { encodePosition, type CursorPosition } from '../protocol/cursor.ts';
import { headStanding, oldestStanding, type ResetReason, type StreamState } from '../log/locate.ts';
import { SluiceError } from '../util/errors.ts';

export interface Loss {
  /** `gap`: trimmed or expired. `reset`: another history. */
  readonly kind: 'gap' | 'reset';
  readonly reason: 'trimmed' | ResetReason;
  readonly stream: string;
  /** The offset the reader stood at. */
  readonly requested: bigint;
  /** Just before the oldest event there is now: resume here. */
  readonly resume: CursorPosition;
  readonly head: CursorPosition;
}

export const lossOf = (
  stream: string,
  requested: bigint,
  state: StreamState,
  located: { readonly kind: 'gap' } | { readonly kind: 'reset'; readonly reason: ResetReason },
): Loss => ({
  kind: located.kind,
  reason: located.kind === 'gap' ? 'trimmed' : located.reason,
  stream,
  requested,
  resume: oldestStanding(state),
  head: headStanding(state),
});

const WHY: Record<Loss['reason'], string> = {
  trimmed: 'the events after it were trimmed',
  recreated: 'the cursor is of another stream, or of one of that name which was deleted',
  future: 'the stream has not come that far: its history is another one, or the cursor was made up',
  history: 'the stream has another history now (a restore, or a failover that lost events)',
};

export function toError({ kind, reason, stream, requested, resume }: Loss): SluiceError {
  const oldest = resume.offset + 1n;
  return new SluiceError(
    kind === 'gap' ? 'cursor_expired' : 'cursor_reset',
    `stream ${JSON.stringify(stream)} cannot be read on from offset ${requested}: ${WHY[reason]}; read again from the oldest, ${oldest}`,
    { oldest, oldestCursor: encodePosition(resume) },
  );
}
