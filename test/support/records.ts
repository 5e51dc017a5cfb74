// Owns made-up events, as they travel inside the process.
import { toRecord, type EncodedEvent, type EventRecord } from '../../src/log/event.ts';
import type { Batch, Entry, Frames } from '../../src/tail/entry.ts';

/** One with nothing but its data. */
export const encodedOf = (data: string): EncodedEvent => ({
  type: null,
  key: null,
  visibleTo: null,
  exclude: null,
  headers: null,
  data,
});

/** The tag is the offset, unless it is given. */
export const recordAt = (
  offset: number | bigint,
  tag: number = Number(offset),
  data: string | EncodedEvent = '1',
): EventRecord => toRecord(typeof data === 'string' ? encodedOf(data) : data, BigInt(offset), tag, 0);

/** Those of a batch that are kept for somebody. */
export const chosen = (batch: Batch, keeps: (entry: Entry) => boolean): Frames | undefined =>
  batch.only(keeps);
