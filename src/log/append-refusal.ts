// Owns the words in which an append is refused: what happened, with the stream and the numbers, and what to do.
import { SluiceError } from '../util/errors.ts';
import type { AppendGroup, AppendOutcome } from './append.ts';

export function appendRefusal(
  { stream, expectedOffset }: AppendGroup,
  outcome: Exclude<AppendOutcome, { kind: 'ok' | 'duplicate' | 'held' }>,
): SluiceError {
  const name = JSON.stringify(stream);
  if (outcome.kind === 'conflict') {
    const { head } = outcome;
    return new SluiceError(
      'offset_conflict',
      `stream ${name} has the head ${head}, so the next offset is ${head + 1n} and not ${expectedOffset}; nothing was appended: read on, and decide again`,
      { head },
    );
  }
  return outcome.kind === 'closed'
    ? new SluiceError('stream_closed', `stream ${name} is closed; nothing was appended`)
    : new SluiceError('stream_not_found', `stream ${name} does not exist; create it, or leave autoCreate on`);
}

export const heldTooLong = (stream: string, cause?: unknown): SluiceError =>
  new SluiceError(
    'overloaded',
    `stream ${JSON.stringify(stream)} is held by another transaction, or has a long backlog; nothing was appended: try again`,
    { cause },
  );
