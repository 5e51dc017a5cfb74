// Events as the function claim hands them out: side by side in one row, taken apart here. Pure.
import type { EventRecord } from '../log/event.ts';

/** One event handed out. */
export interface HandedOut {
  readonly record: EventRecord;
  /** How often, this time included. */
  readonly attempt: number;
}

/** As sql/functions/claim.sql describes it. */
export interface HandedOutRow {
  readonly first: string;
  readonly offsets: string | null;
  readonly data: string;
  readonly tags: string;
  readonly at: string;
  readonly attempts: string | null;
  readonly types: string | null;
  readonly keys: string | null;
  readonly visibleTo: string | null;
  readonly exclude: string | null;
  readonly headers: string | null;
}

/** Separates JSON texts, which cannot contain it. */
const SEPARATOR = '\u001E';

export function toHandedOut(row: HandedOutRow): HandedOut[] {
  const first = BigInt(row.first);
  const tags = row.tags.split(',');
  const at = row.at.split(',');
  const offsets = row.offsets?.split(',');
  const attempts = row.attempts?.split(',');
  const headers = row.headers?.split(SEPARATOR);
  const [types, keys] = [textsOf(row.types), textsOf(row.keys)];
  const [visibleTo, exclude] = [textsOf(row.visibleTo), textsOf(row.exclude)];
  return row.data.split(SEPARATOR).map((data, index) => ({
    record: {
      offset: offsets ? BigInt(offsets[index] as string) : first + BigInt(index),
      tag: Number(tags[index]),
      atMs: Number(at[index]),
      type: types?.[index + 1] ?? null,
      key: keys?.[index + 1] ?? null,
      visibleTo: visibleTo?.[index + 1] ?? null,
      exclude: exclude?.[index + 1] ?? null,
      headers: headers?.[index] || null,
      data,
    },
    attempt: attempts ? Number(attempts[index]) : 1,
  }));
}

const textsOf = (json: string | null): Record<string, string> | undefined =>
  json === null ? undefined : (JSON.parse(json) as Record<string, string>);
