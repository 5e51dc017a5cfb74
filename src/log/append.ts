// One coalesced call of append_batch: events of several streams in, offsets out. Knows the SQL function and nothing of
// queues. A call for one stream may wait for it; a call for several leaves out those that somebody holds.
import { getRandomValues } from 'node:crypto';
import type { Database } from '../db/database.ts';
import type { EncodedEvent } from './encode.ts';
import { toColumns } from './encode.ts';
import type { EventRecord } from './event.ts';

export interface AppendGroup {
  readonly stream: string;
  readonly events: readonly EncodedEvent[];
}

export type AppendOutcome =
  | {
      readonly kind: 'ok';
      readonly incarnation: bigint;
      readonly first: bigint;
      /** The tag of the event before `first`. */
      readonly previousTag: number;
      readonly atMs: number;
      readonly tags: Int32Array;
    }
  | { readonly kind: 'held' | 'closed' | 'missing' };

interface Row {
  readonly idx: number;
  readonly outcome: 'ok' | 'held' | 'closed' | 'missing';
  readonly id: string | null;
  readonly first: string | null;
  readonly previousTag: number | null;
  readonly at: number;
}

const statement = (schema: string): string =>
  `select idx, outcome, stream_id as id, first_offset as first, previous_tag as "previousTag", date_part('epoch', at) * 1000 as at
   from ${schema}.append_batch($1, $2, $3, $4, $5, $6, $7, $8, $9)`;

export interface AppendCall {
  readonly autoCreate: boolean;
  /** 0: leave held streams out; more: wait that long for the call's one stream. */
  readonly waitMs: number;
}

/** The outcomes, in the order of the groups. */
export async function appendBatch(
  database: Database,
  groups: readonly AppendGroup[],
  { autoCreate, waitMs }: AppendCall,
): Promise<AppendOutcome[]> {
  const events =
    groups.length === 1 ? (groups[0] as AppendGroup).events : groups.flatMap((group) => group.events);
  const { data, types, keys, headers } = toColumns(events);
  const tags = getRandomValues(new Int32Array(events.length));
  const rows = await database.query<Row>(
    statement(database.names.quoted),
    [
      groups.map(({ stream }) => stream),
      groups.map((group) => group.events.length),
      data,
      `{${tags.join(',')}}`,
      types,
      keys,
      headers,
      autoCreate,
      waitMs,
    ],
    'sluice_append_batch',
  );
  const outcomes: AppendOutcome[] = groups.map(() => ({ kind: 'held' }));
  const starts = startsOf(groups);
  for (const { idx, outcome, id, first, previousTag, at } of rows) {
    const start = starts[idx - 1] ?? 0;
    outcomes[idx - 1] =
      outcome === 'ok' && id !== null && first !== null
        ? {
            kind: 'ok',
            incarnation: BigInt(id),
            first: BigInt(first),
            previousTag: previousTag ?? 0,
            atMs: Math.floor(at),
            tags: tags.subarray(start, start + (groups[idx - 1]?.events.length ?? 0)),
          }
        : { kind: outcome === 'ok' ? 'held' : outcome };
  }
  return outcomes;
}

function startsOf(groups: readonly AppendGroup[]): number[] {
  let start = 0;
  return groups.map(({ events }) => {
    start += events.length;
    return start - events.length;
  });
}

/** What was appended, as readers see it: feeds the process's own tails without a read. */
export const appendedRecords = (
  { events }: AppendGroup,
  { first, atMs, tags }: Extract<AppendOutcome, { kind: 'ok' }>,
): EventRecord[] =>
  events.map((event, index) => ({ ...event, offset: first + BigInt(index), tag: tags[index] ?? 0, atMs }));
