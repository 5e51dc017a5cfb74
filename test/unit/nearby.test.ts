// Guards that readers who come back near each other share their reads (I7), and that a page read for somebody else is
// believed only where it goes on from the reader's own place (I2). The joins under random schedules are in tail.test.ts.
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Page } from '../../src/log/read.ts';
import type { CursorPosition } from '../../src/protocol/cursor.ts';
import { goesOn, Nearby, serves } from '../../src/tail/nearby.ts';
import { Shelf } from '../../src/tail/shelf.ts';
import { deferred } from '../../src/util/deferred.ts';
import { recordAt } from '../support/records.ts';

const stream = { name: 's', incarnation: 1n };
const at = (offset: number, tag: number = offset): CursorPosition => ({
  incarnation: 1n,
  offset: BigInt(offset),
  tag,
});

/** Events from one offset to another, each with its offset for a tag. */
const page = (first: number, last: number, head = 10_000): Page => ({
  state: { incarnation: 1n, trimmedTo: 0n, trimmedTag: 0, closed: false, head: BigInt(head), headTag: head },
  rows: Array.from({ length: last - first + 1 }, (_, n) => recordAt(first + n)),
});

/** A reader that stands at a place; its own read, if it makes one, answers with a page from there on. */
const reader = (
  nearby: Nearby,
  standing: CursorPosition,
  answer: (offset: number) => Promise<Page | undefined>,
  upTo: () => bigint = () => 10_000n,
): Promise<Page | undefined> => nearby.read(stream, { standing, upTo }, (offset) => answer(Number(offset)));

const open = (maxBytes = 100_000_000): Nearby => new Nearby({ maxBytes, keepMs: 1000 });
const span = ({ rows }: Page): (bigint | undefined)[] => [rows[0]?.offset, rows.at(-1)?.offset];

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

test('I7: readers near each other wait for one read, and each goes on from its own place', async () => {
  const nearby = open();
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
  expect(got.every((each, n) => goesOn(each!, at(places[n]!)))).toBe(true);
});

test('I7: what was read serves whoever comes by within a second, and is gone then', async () => {
  const nearby = open();
  const reads: number[] = [];
  const answer = async (offset: number): Promise<Page> => {
    reads.push(offset);
    return page(offset, offset + 1000);
  };
  await reader(nearby, at(1000), answer);
  vi.advanceTimersByTime(999);
  expect(span((await reader(nearby, at(1500), answer))!)).toEqual([1000n, 2000n]);
  expect(nearby.holds(stream, { standing: at(1500), upTo: () => 10_000n })).toBe(true);
  expect(reads).toEqual([1000]);
  vi.advanceTimersByTime(1);
  expect(nearby.holds(stream, { standing: at(1500), upTo: () => 10_000n })).toBe(false);
  await reader(nearby, at(1500), answer);
  expect(reads).toEqual([1000, 1500]);
});

test('I7: among others, pages begin where they serve most; alone, where the reader stands', async () => {
  const nearby = open();
  const reads: number[] = [];
  const answer = async (offset: number): Promise<Page> => {
    reads.push(offset);
    return page(offset, offset + 1000);
  };
  for (const offset of [3456, 1200, 1100, 1700, 2000]) await reader(nearby, at(offset), answer);
  expect(reads).toEqual([3456, 1000, 2000]);
});

test('I7: where events are large and a page has few, readers who stand beyond it go on from where they stand', async () => {
  const nearby = open();
  const reads: number[] = [];
  const answer = async (offset: number): Promise<Page> => {
    reads.push(offset);
    return page(offset, offset + 10);
  };
  await reader(nearby, at(5000), answer);
  const got: Page[] = [];
  for (const offset of [1200, 1205, 1210, 1003]) got.push((await reader(nearby, at(offset), answer))!);
  expect(reads).toEqual([5000, 1000, 1200, 1210]);
  expect(got.map(span)).toEqual([1200, 1200, 1210, 1000].map((from) => [BigInt(from), BigInt(from + 10)]));
});

test('a page that ended at the head of its time does not serve a reader that lacks far more by now', async () => {
  const nearby = open();
  let last = 1010n;
  const reads: number[] = [];
  const answer = async (offset: number): Promise<Page> => {
    reads.push(offset);
    return page(offset, Number(last), Number(last));
  };
  await reader(nearby, at(1000), answer, () => last);
  last = 1012n;
  await reader(nearby, at(1001), answer, () => last);
  expect(reads).toEqual([1000]);
  last = 1100n;
  expect(span((await reader(nearby, at(1001), answer, () => last))!)).toEqual([1001n, 1100n]);
  expect(reads).toEqual([1000, 1001]);
});

test.each<[string, CursorPosition, Page]>([
  ['that ends where it stands', at(1001), page(1000, 1001)],
  ['that ends before', at(1005), page(1000, 1001)],
  ['of another history', at(1001, 7), page(1000, 1002)],
  ['whose events begin after it', at(1001), page(1002, 1003)],
  ['without events', at(1001), { ...page(1, 1), rows: [] }],
])('I2: nobody is given a page %s', async (_, standing, theirs) => {
  expect(serves(theirs, { standing, upTo: () => 10_000n })).toBe(false);
  for (const comes of ['meanwhile', 'later']) {
    const nearby = open();
    const own = page(Number(standing.offset), 1010);
    const answer = async (offset: number): Promise<Page> => (offset === 1000 ? theirs : own);
    const first = reader(nearby, at(1000), answer);
    if (comes === 'later') await first;
    expect(await reader(nearby, standing, answer)).toEqual(own);
    await first;
  }
});

test('I2: what the tail does not know yet is given to nobody else', async () => {
  const nearby = open();
  let last = 1500n;
  const reads: number[] = [];
  const answer = async (offset: number): Promise<Page> => {
    reads.push(offset);
    return page(offset, 1700);
  };
  const first = await reader(nearby, at(1000), answer, () => last);
  expect(span(first!)).toEqual([1000n, 1500n]);
  expect(await reader(nearby, at(1200), answer, () => last)).toBe(first);
  last = 1400n; // another history, of which it knows less
  expect(nearby.holds(stream, { standing: at(1200), upTo: () => last })).toBe(false);
});

test('a reader that stands at the start of what there is can be given a page, by its tag', () => {
  const trimmed = { ...page(1001, 1010), state: { ...page(1, 1010).state, trimmedTo: 1000n, trimmedTag: 5 } };
  expect([at(1000, 5), at(1000, 6), at(999)].map((place) => goesOn(trimmed, place))).toEqual([
    true,
    false,
    false,
  ]);
});

test('I8: what was read, or was asked for, before another history was found serves nobody', async () => {
  const nearby = open();
  const answered = deferred();
  const reads: number[] = [];
  const answer = async (offset: number): Promise<Page> => {
    reads.push(offset);
    if (offset === 3000) await answered.promise;
    return page(offset, offset + 1000);
  };
  await reader(nearby, at(1000), answer);
  const late = reader(nearby, at(3000), answer);
  nearby.forget(stream);
  answered.resolve();
  await late;
  for (const offset of [1000, 3000]) await reader(nearby, at(offset), answer);
  expect(reads).toEqual([1000, 3000, 1000, 3000]);
});

test('interleaving C6: nobody waits for a read that was given up, and whoever joined before it was keeps it', async () => {
  const nearby = open();
  const [gone, stays] = [new AbortController(), new AbortController()];
  const turn = deferred();
  const reads: number[] = [];
  let later: Promise<Page | undefined> | undefined;
  const read = async (offset: bigint, isWanted: () => boolean): Promise<Page> => {
    await turn.promise;
    if (!isWanted()) {
      later = from(1001, stays.signal); // comes before the others have heard of it
      throw new Error('given up');
    }
    reads.push(Number(offset));
    return page(Number(offset), Number(offset) + 1000);
  };
  const from = (offset: number, signal: AbortSignal): Promise<Page | undefined> =>
    nearby.read(stream, { standing: at(offset), upTo: () => 10_000n, signal }, read);
  const alone = from(1000, gone.signal);
  const shared = [from(4000, gone.signal), from(4001, stays.signal)];
  gone.abort('gone');
  turn.resolve();
  await expect(alone).rejects.toThrow('given up');
  expect((await Promise.all(shared)).map((each) => span(each!)[0])).toEqual([4000n, 4000n]);
  expect(goesOn((await later)!, at(1001))).toBe(true);
  expect(reads).toEqual([4000, 1001]);
});

test('a stream that is gone, and a read that fails, are told to all who waited for it', async () => {
  const nearby = open();
  const gone = [1000, 1001].map((offset) => reader(nearby, at(offset), async () => undefined));
  expect(await Promise.all(gone)).toEqual([undefined, undefined]);
  const failing = [1000, 1001].map((offset) =>
    reader(nearby, at(offset), () => Promise.reject(new Error('no'))),
  );
  const how = await Promise.allSettled(failing);
  expect(how.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  expect(await reader(nearby, at(1000), async (offset) => page(offset, 1010))).toBeDefined();
});

describe('I7: the shelf', () => {
  const any = (): boolean => true;
  const bytesOf = (count: number): number => {
    const shelf = new Shelf({ maxBytes: Infinity, keepMs: 1000 });
    shelf.put('s', 1n, page(1, count));
    const { bytes } = shelf;
    shelf.clear();
    return bytes;
  };

  test('holds no more bytes than it may, and lets the oldest go', () => {
    const shelf = new Shelf({ maxBytes: bytesOf(100) * 3, keepMs: 1000 });
    for (let n = 0n; n < 10n; n += 1n) shelf.put(n % 2n === 0n ? 'a' : 'b', n, page(1, 100));
    expect([shelf.begins('a'), shelf.begins('b')]).toEqual([[8n], [7n, 9n]]);
    expect(shelf.bytes).toBe(bytesOf(100) * 3);
    shelf.put('a', 99n, page(1, 301));
    expect(shelf.begins('a')).toEqual([8n]); // one page that is larger than all there may be
    const none = new Shelf({ maxBytes: 0, keepMs: 1000 });
    none.put('a', 1n, page(1, 1));
    expect(none.find('a', any)).toBeUndefined();
  });

  test('holds so many pages of a stream that looking through them is cheap', () => {
    const shelf = new Shelf({ maxBytes: Infinity, keepMs: 1000 });
    for (let n = 0n; n < 1000n; n += 1n) shelf.put('a', n, page(1, 1));
    expect(shelf.begins('a')).toHaveLength(64);
    expect(shelf.bytes).toBe(bytesOf(1) * 64);
  });

  test('holds nothing for longer than it may, whether or not anybody comes', () => {
    const shelf = new Shelf({ maxBytes: Infinity, keepMs: 1000 });
    shelf.put('a', 1n, page(1, 10));
    vi.advanceTimersByTime(600);
    shelf.put('a', 2n, page(1, 10));
    vi.advanceTimersByTime(400);
    expect(shelf.bytes).toBe(bytesOf(10));
    expect(shelf.begins('a')).toEqual([2n]);
    vi.advanceTimersByTime(600);
    expect(shelf.bytes).toBe(0);
    expect(vi.getTimerCount()).toBe(0);
    shelf.put('a', 3n, page(1, 10));
    shelf.clear();
    expect([shelf.bytes, vi.getTimerCount(), shelf.find('a', any)]).toEqual([0, 0, undefined]);
  });
});
