// One coalesced call of append_batch: events of several streams in, offsets out. Knows the SQL function and nothing of
// queues. A call for one stream may wait for it; a call for several leaves out those that somebody holds.
import type { Database } from '../db/database.ts';
import { toColumns } from './encode.ts';
import { toRecord, type EncodedEvent, type EventRecord } from './event.ts';
import { Tags } from './tags.ts';

const TAGS = new Tags();

export interface AppendGroup {
  readonly stream: string;
  readonly events: readonly EncodedEvent[];
  /** Written once per key, for as long as it is remembered. Once per stream and call. */
  readonly idempotencyKey?: string | undefined;
  /** The offset that the first event must get. Such a group is its stream's only one in the call. */
  readonly expectedOffset?: bigint | undefined;
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
      /** Readers were told with the commit. */
      readonly rung: boolean;
    }
  /** Written before, under the same key. */
  | {
      readonly kind: 'duplicate';
      readonly incarnation: bigint;
      readonly first: bigint;
      readonly last: bigint;
      readonly lastTag: number;
    }
  | { readonly kind: 'conflict'; readonly head: bigint }
  | { readonly kind: 'held' | 'closed' | 'missing' };

interface Row {
  readonly idx: number;
  readonly outcome: AppendOutcome['kind'];
  readonly id: string;
  readonly first: string;
  readonly last: string;
  readonly previousTag: number;
  readonly lastTag: number;
  readonly at: number;
  readonly rung: boolean | null;
}

const statement = (schema: string): string =>
  `select idx, outcome, stream_id as id, first_offset as first, last_offset as last, previous_tag as "previousTag",
     last_tag as "lastTag", date_part('epoch', at) * 1000 as at,
     case when $14 and outcome = 'ok' then ${schema}.ring_readers(stream_id || ':' || last_offset) end as rung
   from ${schema}.append_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`;

export interface AppendCall {
  readonly autoCreate: boolean;
  /** 0: leave held streams out; more: wait that long for the call's one stream. */
  readonly waitMs: number;
}

/** The outcomes, in the order of the groups. `mayRing`: the commit may tell readers; for one group. */
export async function appendBatch(
  database: Database,
  groups: readonly AppendGroup[],
  { autoCreate, waitMs }: AppendCall,
  mayRing: boolean,
): Promise<AppendOutcome[]> {
  const events =
    groups.length === 1 ? (groups[0] as AppendGroup).events : groups.flatMap((group) => group.events);
  const { data, types, keys, headers, visibleTo, exclude } = toColumns(events);
  const tags = TAGS.take(events.length);
  const column = <T>(member: (group: AppendGroup) => T | undefined): (T | null)[] | null =>
    groups.some((group) => member(group) !== undefined) ? groups.map((group) => member(group) ?? null) : null;
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
      column(({ idempotencyKey }) => idempotencyKey),
      column(({ expectedOffset }) => expectedOffset),
      visibleTo,
      exclude,
      mayRing,
    ],
    'sluice_append_batch',
  );
  const outcomes: AppendOutcome[] = groups.map(() => ({ kind: 'held' }));
  const starts = startsOf(groups);
  const lastTags = new Map<string, number>(); // of what this very call wrote before
  for (const row of rows.toSorted((a, b) => a.idx - b.idx)) {
    const start = starts[row.idx - 1] ?? 0;
    const ours = tags.subarray(start, start + (groups[row.idx - 1]?.events.length ?? 0));
    outcomes[row.idx - 1] = toOutcome(row, ours, lastTags.get(row.id) ?? row.previousTag);
    if (row.outcome === 'ok') lastTags.set(row.id, ours.at(-1) ?? 0);
  }
  return outcomes;
}

function toOutcome(row: Row, tags: Int32Array, previousTag: number): AppendOutcome {
  const { outcome: kind, rung } = row;
  if (kind === 'held' || kind === 'closed' || kind === 'missing') return { kind };
  const first = BigInt(row.first);
  if (kind === 'conflict') return { kind, head: first - 1n };
  const incarnation = BigInt(row.id);
  return kind === 'duplicate'
    ? { kind, incarnation, first, last: BigInt(row.last), lastTag: row.lastTag }
    : { kind, incarnation, first, previousTag, atMs: Math.floor(row.at), tags, rung: rung === true };
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
  events.map((event, index) => toRecord(event, first + BigInt(index), tags[index] ?? 0, atMs));
