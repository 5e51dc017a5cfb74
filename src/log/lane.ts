// What waits to be appended to one stream, and what of it goes into the next call: plain appends together as one group, an
// append with an idempotency key as a group of its own (it is kept or dropped by itself), one with an expected offset as
// the only one of its call. Pure; order is never changed.
import type { Deferred } from '../util/deferred.ts';
import type { AppendGroup } from './append.ts';
import type { EncodedEvent } from './event.ts';

/** What was appended, or was found to be there already. */
export interface Appended {
  readonly incarnation: bigint;
  readonly first: bigint;
  readonly last: bigint;
  readonly lastTag: number;
  readonly duplicate: boolean;
}

/** What an append asks for beside being written. */
export interface AppendDemands {
  readonly idempotencyKey?: string | undefined;
  /** The offset that its first event must get. */
  readonly expectedOffset?: bigint | undefined;
}

export interface Item extends AppendDemands {
  readonly events: readonly EncodedEvent[];
  readonly bytes: number;
  readonly deadline: number;
  readonly result: Deferred<Appended>;
}

export interface Lane {
  items: Item[];
  /** A call for this stream is under way. */
  busy: boolean;
  /** Somebody holds the stream: it goes alone, in a call that may wait. */
  held: boolean;
}

/** A group of a call, and whom to tell. */
export interface ItemGroup extends AppendGroup {
  readonly items: readonly Item[];
}

export interface TakeLimits {
  /** Events, unless a single append has more. */
  readonly maxEvents: number;
  readonly maxBytes: number;
}

/** Removes from the lane what goes into the next call. */
export function takeGroups(stream: string, lane: Lane, limits: TakeLimits): ItemGroup[] {
  const taken = lane.items.splice(0, countTaken(lane.items, limits));
  const groups: ItemGroup[] = [];
  let plain: Item[] = [];
  const flush = (): void => {
    if (plain.length > 0) groups.push(groupOf(stream, plain));
    plain = [];
  };
  for (const item of taken) {
    if (isPlain(item)) {
      plain.push(item);
      continue;
    }
    flush();
    groups.push(groupOf(stream, [item]));
  }
  flush();
  return groups;
}

/** An item by itself. */
export const groupOf = (stream: string, items: readonly Item[]): ItemGroup => {
  const [first] = items as [Item];
  return {
    stream,
    items,
    events: items.length === 1 ? first.events : eventsOf(items),
    idempotencyKey: first.idempotencyKey,
    expectedOffset: first.expectedOffset,
  };
};

function eventsOf(items: readonly Item[]): EncodedEvent[] {
  const all: EncodedEvent[] = [];
  for (const { events } of items) for (const event of events) all.push(event);
  return all;
}

const isPlain = ({ idempotencyKey, expectedOffset }: Item): boolean =>
  idempotencyKey === undefined && expectedOffset === undefined;

function countTaken(items: readonly Item[], { maxEvents, maxBytes }: TakeLimits): number {
  const keys = new Set<string>();
  let events = 0;
  let bytes = 0;
  let count = 0;
  for (const item of items) {
    const { idempotencyKey, expectedOffset } = item;
    if (count > 0) {
      if (events + item.events.length > maxEvents || bytes + item.bytes > maxBytes) break;
      if (expectedOffset !== undefined) break;
      if (idempotencyKey !== undefined && keys.has(idempotencyKey)) break; // it shall find what the first one left
    }
    events += item.events.length;
    bytes += item.bytes;
    count += 1;
    if (expectedOffset !== undefined) break;
    if (idempotencyKey !== undefined) keys.add(idempotencyKey);
  }
  return count;
}
