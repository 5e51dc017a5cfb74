// Events as the function claim hands them out: side by side in one row, taken apart here. Pure.
import { RECORD_SEPARATOR } from '../log/encode.ts';
import { toRecord, type EventRecord } from '../log/event.ts';

/** One event handed out. */
export interface HandedOut {
  readonly record: EventRecord;
  /** How often, this time included. */
  readonly attempt: number;
}

/** As sql/functions/claim.sql describes it. */
export interface HandedOutRow {
  readonly first: string | null;
  readonly offsets: string | null;
  readonly data: string | null;
  readonly tags: string | null;
  readonly at: string | null;
  readonly attempts: string | null;
  readonly types: string | null;
  readonly keys: string | null;
  readonly rest: string | null;
}

/** Of an event: visibleTo, exclude and headers. */
type Rest = readonly [string | null, string | null, string | null];
const NOTHING: Rest = [null, null, null];

export function toHandedOut(row: HandedOutRow): HandedOut[] {
  if (row.data === null) return [];
  const first = BigInt(row.first ?? 0);
  const tags = numbersOf(row.tags);
  const at = numbersOf(row.at);
  const offsets = row.offsets?.slice(1, -1).split(',');
  const attempts = row.attempts === null ? undefined : numbersOf(row.attempts);
  const types = row.types?.split(RECORD_SEPARATOR);
  const keys = row.keys === null ? undefined : (JSON.parse(row.keys) as Record<string, string>);
  const rest = row.rest === null ? undefined : (JSON.parse(row.rest) as Record<string, Rest>);
  return row.data.split(RECORD_SEPARATOR).map((data, index) => {
    const offset = offsets ? BigInt(offsets[index] as string) : first + BigInt(index);
    const [visibleTo, exclude, headers] = rest?.[String(offset)] ?? NOTHING;
    const type = types?.[index] || null;
    const key = keys?.[String(offset)] ?? null;
    const event = { type, key, visibleTo, exclude, headers, data };
    return {
      record: toRecord(event, offset, tags[index] as number, at[index] as number),
      attempt: attempts?.[index] ?? 1,
    };
  });
}

/** Of the text of an array. */
const numbersOf = (text: string | null): number[] =>
  text === null ? [] : (JSON.parse(`[${text.slice(1, -1)}]`) as number[]);
