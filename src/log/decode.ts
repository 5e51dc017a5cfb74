// From a record to the event a reader gets: as stored, or as the reader's schema makes it. An event that does not fit is
// never left out: the reader is told which it is, and how to go on after it.
import { encodePosition } from '../protocol/cursor.ts';
import { waitOrAbort } from '../util/abort.ts';
import { SluiceError } from '../util/errors.ts';
import { StreamEvent, type EventRecord, type StreamIdentity } from './event.ts';
import { judge, type StandardSchemaV1, type Verdict } from '../util/standard-schema.ts';
import { refusal } from './payload-schema.ts';

/** A promise only if the schema gave one. @throws SluiceError payload_invalid */
export type Decode<T> = (
  identity: StreamIdentity,
  record: EventRecord,
) => StreamEvent<T> | Promise<StreamEvent<T>>;

export const decodeWith =
  <T>(schema: StandardSchemaV1<unknown, T>): Decode<T> =>
  (identity, record) => {
    const verdict = judge(schema, JSON.parse(record.data));
    return verdict instanceof Promise
      ? verdict.then((answer) => toFitting<T>(answer, identity, record))
      : toFitting<T>(verdict, identity, record);
  };

function toFitting<T>(verdict: Verdict, identity: StreamIdentity, record: EventRecord): StreamEvent<T> {
  if (verdict.ok) return new StreamEvent(identity, record, verdict.value as T);
  const { name, incarnation } = identity;
  const { offset, tag } = record;
  throw refusal(verdict, {
    what: `the event at offset ${offset} of stream ${JSON.stringify(name)} does not fit the schema`,
    remedy: "go on after it with the error's cursor",
    stream: name,
    offset,
    cursor: encodePosition({ incarnation, offset, tag }),
  });
}

/**
 * The events of a page up to the first that does not fit; throws only if that is the very first, so that whoever goes
 * on after it with the error's cursor leaves out nothing else.
 */
export async function decodePage<T>(
  decode: Decode<T>,
  identity: StreamIdentity,
  { records, signal }: { readonly records: readonly EventRecord[]; readonly signal: AbortSignal | undefined },
): Promise<StreamEvent<T>[]> {
  const events: StreamEvent<T>[] = [];
  for (const record of records) {
    try {
      const decoded = decode(identity, record);
      events.push(decoded instanceof Promise ? await waitOrAbort(decoded, signal) : decoded);
    } catch (error) {
      signal?.throwIfAborted();
      if (events.length === 0 || !isMisfit(error)) throw error;
      return events;
    }
  }
  return events;
}

const isMisfit = (error: unknown): boolean =>
  error instanceof SluiceError && error.code === 'payload_invalid';
