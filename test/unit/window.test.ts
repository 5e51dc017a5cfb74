// Guards the recent events a tail holds: always consecutive, never over its bounds, and never wrong about what it has
// (I2, I7). Checked against an array that forgets from the front.
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { EventRecord } from '../../src/log/event.ts';
import { Batch, Entry, type Frames } from '../../src/tail/entry.ts';
import { nextStep } from '../../src/tail/splice.ts';
import { Window } from '../../src/tail/window.ts';
import { chosen, recordAt } from '../support/records.ts';

const identity = { name: 'orders', incarnation: 1n };
const entryAt = (offset: bigint, data = '1'): Entry =>
  new Entry(identity, recordAt(offset, Number(offset), data));

const pushAll = (window: Window, first: bigint, sizes: readonly number[]): Entry[] => {
  const entries = sizes.map((size, index) => entryAt(first + BigInt(index), 'x'.repeat(size)));
  for (const entry of entries) window.push(entry);
  return entries;
};

/** All that a reader gets from the window, one step after the other. */
const allAfter = (window: Window, offset: bigint): Entry[] => {
  const got: Entry[] = [];
  for (let at = offset; window.at(at + 1n); at = got.at(-1)!.offset) got.push(...window.after(at).entries);
  return got;
};

const sizes = fc.array(fc.integer({ min: 0, max: 400 }), { maxLength: 200 });
const limits = fc.record({
  maxEvents: fc.integer({ min: 1, max: 60 }),
  maxBytes: fc.integer({ min: 1, max: 20_000 }),
});

/** The newest entries that fit, the oldest first: what a window must hold after these pushes. */
const model = (
  entries: readonly Entry[],
  { maxEvents, maxBytes }: { maxEvents: number; maxBytes: number },
): Entry[] => {
  const held: Entry[] = [];
  for (const entry of entries) {
    held.push(entry);
    while (held.length > maxEvents || held.reduce((sum, { size }) => sum + size, 0) > maxBytes) held.shift();
  }
  return held;
};

test('I7: what is made of an event for its readers counts, and pushes out the oldest', () => {
  const window = new Window({ maxEvents: 100, maxBytes: 20_000 });
  const entries = pushAll(
    window,
    1n,
    Array.from({ length: 10 }, () => 0),
  );
  for (let n = 11n; n <= 15n; n += 1n) {
    const entry = entryAt(n, JSON.stringify('€'.repeat(500)));
    entries.push(entry);
    window.push(entry);
  }
  const held = (): readonly Entry[] => window.after(window.first!.offset - 1n).entries;
  expect(held()).toEqual(entries);
  const before = window.bytes;
  const last = entries.at(-1)!;
  const made = last.frame('envelope').length + last.frame('data').length + last.body.length;
  expect(window.bytes).toBeGreaterThan(before + made);
  const parsed = window.bytes;
  expect([last.event, last.event, last.frame('data')]).toHaveLength(3);
  expect(window.bytes).toBeGreaterThan(parsed);
  for (const entry of entries) entry.frame('envelope');
  expect(window.bytes).toBeLessThanOrEqual(20_000);
  expect(window.bytes).toBe(held().reduce((sum, { size }) => sum + size, 0));
  expect(held()).toEqual(entries.slice(-held().length));
  expect(held().length).toBeLessThan(entries.length);
  window.clear();
  last.frame('envelope');
  expect(window.bytes).toBe(0);
});

test('I7: it holds the newest events that fit its bounds in number and bytes, and no others', () => {
  fc.assert(
    fc.property(limits, fc.bigInt({ min: 1n, max: 2n ** 62n }), sizes, (given, first, list) => {
      const window = new Window(given);
      const held = model(pushAll(window, first, list), given);
      expect(window.length).toBe(held.length);
      expect(window.bytes).toBe(held.reduce((sum, { size }) => sum + size, 0));
      expect(window.first).toBe(held[0]);
      expect(window.bytes).toBeLessThanOrEqual(given.maxBytes);
    }),
  );
});

test('I2: what it gives step by step after an offset is all that follows, in order', () => {
  fc.assert(
    fc.property(limits, sizes, fc.integer({ min: -3, max: 210 }), (given, list, at) => {
      const window = new Window(given);
      const held = model(pushAll(window, 1n, list), given);
      const offset = BigInt(at);
      const covered = held[0] !== undefined && offset + 1n >= held[0].offset;
      expect(window.covers(offset)).toBe(covered);
      if (covered) expect(allAfter(window, offset)).toEqual(held.filter((each) => each.offset > offset));
      expect(window.at(offset)).toBe(held.find((each) => each.offset === offset));
    }),
  );
});

describe('steps', () => {
  const filled = (count: number, maxBytes = 10_000_000): Window => {
    const window = new Window({ maxEvents: 5000, maxBytes });
    pushAll(
      window,
      1n,
      Array.from({ length: count }, () => 10),
    );
    return window;
  };

  test('are the same for all, who share the bytes of what they lack of them', () => {
    const window = filled(1700);
    const whole = window.after(500n);
    expect([whole.first.offset, whole.last.offset]).toEqual([501n, 1000n]);
    const part = window.after(700n);
    expect([part.first.offset, part.last.offset]).toEqual([701n, 1000n]);
    expect(part.bytes('data').buffer).toBe(whole.bytes('data').buffer);
    expect(String(whole.bytes('data')).endsWith(String(part.bytes('data')))).toBe(true);
    expect(part.bytes('data')).toEqual(Buffer.concat(part.entries.map((entry) => entry.frame('data'))));
  });

  test('I2: the last one grows, and whoever comes gets all of it', () => {
    const window = filled(600);
    expect(window.after(500n).last.offset).toBe(600n);
    pushAll(window, 601n, [10, 10]);
    expect(window.after(500n).entries.map(({ offset }) => offset)).toEqual(
      Array.from({ length: 102 }, (_, n) => BigInt(501 + n)),
    );
    expect(window.after(600n).entries.map(({ offset }) => offset)).toEqual([601n, 602n]);
  });

  test('I7: have as many bytes of data as one step may, or one event', () => {
    const window = new Window({ maxEvents: 100, maxBytes: 1e9 });
    pushAll(
      window,
      1n,
      Array.from({ length: 9 }, () => 100_000),
    );
    expect([0n, 3n, 6n].map((offset) => window.after(offset).last.offset)).toEqual([3n, 6n, 9n]);
  });

  test('I7: what they join counts, until the first of them has left', () => {
    const window = filled(1500);
    for (const offset of [0n, 500n])
      for (const { offset: at } of window.after(offset).entries) window.at(at)!.frame('data');
    const { bytes } = window;
    const joined = [0n, 500n].map((offset) => window.after(offset).bytes('data').length);
    expect(window.bytes).toBe(bytes + joined[0]! + joined[1]!);
    window.after(500n).bytes('data');
    expect(window.bytes).toBe(bytes + joined[0]! + joined[1]!);
    window.clear();
    expect(window.bytes).toBe(0);
    const small = filled(1000, 300_000);
    const kept = small.length;
    for (let at = small.first!.offset; at < 1000n; at = small.after(at).last.offset)
      small.after(at).bytes('data');
    expect(small.bytes).toBeLessThanOrEqual(300_000);
    expect(small.length).toBeLessThan(kept);
    expect(allAfter(small, small.first!.offset - 1n)).toHaveLength(small.length);
  });

  test('I7: selections of them that are kept to be shared count too, and are few where they are large', () => {
    const window = new Window({ maxEvents: 5000, maxBytes: 10_000_000 });
    const entries = pushAll(
      window,
      1n,
      Array.from({ length: 500 }, () => 500),
    );
    for (const entry of entries) entry.frame('data');
    const select = (batch: Batch, n: number): Frames | undefined =>
      chosen(batch, ({ offset }) => offset % 17n !== BigInt(n));
    const kept = (batch: Batch): number => {
      const parts = Array.from({ length: 16 }, (_, n) => {
        const part = select(batch, n)!;
        return { n, part, bytes: part.bytes('data').length };
      });
      return parts.reduce((sum, { n, part, bytes }) => (select(batch, n) === part ? sum + bytes : sum), 0);
    };
    const { bytes } = window;
    const whole = kept(window.after(0n));
    expect(window.bytes).toBe(bytes + whole);
    expect(whole).toBeGreaterThan(256 * 1024);
    expect(whole).toBeLessThan(2 * 256 * 1024);
    // Of the ends of a step that readers go on from, one is remembered.
    for (const offset of [100n, 120n, 140n]) {
      const end = kept(window.after(offset));
      expect(window.bytes).toBe(bytes + whole + end);
    }
    window.clear();
    expect(window.bytes).toBe(0);
  });
});

test('I2: it refuses anything but the next offset, so it can never hold a gap', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 40 }), fc.integer({ min: -50, max: 50 }), (count, step) => {
      const window = new Window({ maxEvents: 20, maxBytes: 1_000_000 });
      pushAll(
        window,
        1n,
        Array.from({ length: count }, () => 1),
      );
      const push = (): void => window.push(entryAt(BigInt(count + step)));
      if (step === 1) expect(push).not.toThrow();
      else expect(push).toThrow(RangeError);
    }),
  );
});

test('an event larger than the bound is not kept, and the next one may follow it', () => {
  const window = new Window({ maxEvents: 10, maxBytes: 1000 });
  pushAll(window, 1n, [1, 1, 10_000]);
  expect([window.length, window.bytes, window.first]).toEqual([0, 0, undefined]);
  pushAll(window, 4n, [1]);
  expect(allAfter(window, 3n).map(({ offset }) => offset)).toEqual([4n]);
  expect(window.covers(2n)).toBe(false);
});

test('cleared, it takes any offset', () => {
  const window = new Window({ maxEvents: 10, maxBytes: 100_000 });
  pushAll(window, 50n, [1, 1]);
  window.clear();
  expect([window.length, window.bytes]).toEqual([0, 0]);
  pushAll(window, 3n, [1]);
  expect(window.first?.offset).toBe(3n);
});

describe('with the decision where the next events come from', () => {
  test('I2: `window` is answered only when the window has the very next event', () => {
    fc.assert(
      fc.property(limits, sizes, fc.integer({ min: 0, max: 210 }), (given, list, at) => {
        const window = new Window(given);
        pushAll(window, 1n, list);
        const position = BigInt(at);
        const step = nextStep(position, { last: BigInt(list.length), windowFirst: window.first?.offset });
        if (step === 'window') expect(window.after(position).first.offset).toBe(position + 1n);
        if (step === 'live') expect(position).toBeGreaterThanOrEqual(BigInt(list.length));
        if (step === 'database') expect(window.at(position)).toBeUndefined();
      }),
    );
  });
});

describe('a batch', () => {
  const record = (offset: bigint): EventRecord => entryAt(offset).record;

  test('gives what follows an offset inside it or just before it', () => {
    const batch = new Batch([5n, 6n, 7n].map((offset) => entryAt(offset)));
    expect(batch.after(4n)).toBe(batch);
    expect(batch.after(5n).entries.map(({ offset }) => offset)).toEqual([6n, 7n]);
    expect(() => batch.after(7n)).toThrow(RangeError);
    expect(() => new Batch([])).toThrow(RangeError);
  });

  test('is encoded once for all, as the frames of its events one after another', () => {
    const entries = [1n, 2n].map((offset) => new Entry(identity, record(offset)));
    const batch = new Batch(entries);
    expect(batch.bytes('envelope')).toBe(batch.bytes('envelope'));
    expect(batch.bytes('envelope')).toEqual(Buffer.concat(entries.map((entry) => entry.frame('envelope'))));
    expect(String(batch.bytes('data'))).toBe('id: 1-1-1\ndata: 1\n\nid: 1-2-2\ndata: 1\n\n');
  });
});
