// Guards that readers who come back near each other share their reads (I7), and that a page read for somebody else is
// believed only where it goes on from the reader's own place (I2). The joins under random schedules are in tail.test.ts.
import { expect, test } from 'vitest';
import type { EventRecord } from '../../src/log/event.ts';
import type { Page } from '../../src/log/read.ts';
import type { CursorPosition } from '../../src/protocol/cursor.ts';
import { from, Nearby, serves } from '../../src/tail/nearby.ts';
import { deferred } from '../../src/util/deferred.ts';

const stream = { name: 's', incarnation: 1n };
const at = (offset: number, tag: number = offset): CursorPosition => ({
  incarnation: 1n,
  offset: BigInt(offset),
  tag,
});

/** Events from one offset to another, each with its offset for a tag. */
const page = (first: number, last: number): Page => ({
  state: { incarnation: 1n, trimmedTo: 0n, trimmedTag: 0, closed: false, head: BigInt(last), headTag: last },
  rows: Array.from({ length: last - first + 1 }, (_, n) => event(first + n)),
});
const event = (offset: number): EventRecord => ({
  offset: BigInt(offset),
  tag: offset,
  atMs: 0,
  type: null,
  key: null,
  visibleTo: null,
  exclude: null,
  headers: null,
  data: '1',
});

/** A reader that stands at a place; its own read, if it makes one, answers with a page from there on. */
const reader = (
  nearby: Nearby,
  standing: CursorPosition,
  answer: (offset: number) => Promise<Page | undefined>,
): Promise<Page | undefined> =>
  nearby.read(stream, { standing, upTo: 10_000n }, () => answer(Number(standing.offset)));

test('I7: readers near each other wait for one read, and each goes on from its own place', async () => {
  const nearby = new Nearby();
  const answered = deferred();
  const reads: number[] = [];
  const answer = async (offset: number): Promise<Page> => {
    reads.push(offset);
    await answered.promise;
    return page(offset, offset + 1000);
  };
  const places = Array.from({ length: 400 }, (_, n) => 1000 + n);
  const pages = places.map((offset) => reader(nearby, at(offset), answer));
  answered.resolve();
  const got = await Promise.all(pages);
  expect(reads).toEqual([1000]);
  expect(got.map((each, n) => from(each!, BigInt(places[n]!)).rows[0]?.offset)).toEqual(places.map(BigInt));
  await reader(nearby, at(1000), answer);
  expect(reads).toEqual([1000, 1000]); // what has been answered is not kept
});

test('I7: a reader before the one that reads, or far behind it, reads for itself', async () => {
  const nearby = new Nearby();
  const reads: number[] = [];
  const answer = async (offset: number): Promise<Page> => {
    reads.push(offset);
    return page(offset, offset + 1000);
  };
  await Promise.all([1200, 1100, 2000].map((offset) => reader(nearby, at(offset), answer)));
  expect(reads).toEqual([1200, 1100, 2000]);
});

test.each<[string, CursorPosition, Page]>([
  ['that ends where it stands', at(1001), page(1000, 1001)],
  ['that ends before', at(1005), page(1000, 1001)],
  ['of another history', at(1001, 7), page(1000, 1002)],
  ['whose events begin after it', at(1001), page(1002, 1003)],
  ['without events', at(1001), { ...page(1, 1), rows: [] }],
  ['that knows more than its tail', at(1001), page(1000, 10_001)],
])('I2: nobody is given a page %s', async (_, standing, theirs) => {
  expect(serves(theirs, standing, 10_000n)).toBe(false);
  const nearby = new Nearby();
  const own = page(Number(standing.offset), 1010);
  const [, given] = await Promise.all([
    reader(nearby, at(1000), async () => theirs),
    reader(nearby, standing, async () => own),
  ]);
  expect(given).toBe(own);
});

test('a stream that is gone, and a read that fails, are told to all who waited for it', async () => {
  const nearby = new Nearby();
  const gone = [1000, 1001].map((offset) => reader(nearby, at(offset), async () => undefined));
  expect(await Promise.all(gone)).toEqual([undefined, undefined]);
  const failing = [1000, 1001].map((offset) =>
    reader(nearby, at(offset), () => Promise.reject(new Error('no'))),
  );
  const how = await Promise.allSettled(failing);
  expect(how.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
});
