// Guards the recent events a tail holds: always consecutive, never over its bounds, and never wrong about what it has
// (I2, I7). Checked against an array that forgets from the front.
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { EventRecord } from '../../src/log/event.ts';
import { Batch, Entry } from '../../src/tail/entry.ts';
import { nextStep } from '../../src/tail/splice.ts';
import { Window } from '../../src/tail/window.ts';

const identity = { name: 'orders', incarnation: 1n };
const entryAt = (offset: bigint, data = '1'): Entry =>
  new Entry(identity, {
    offset,
    tag: Number(offset),
    atMs: 0,
    type: null,
    key: null,
    visibleTo: null,
    exclude: null,
    headers: null,
    data,
  });

const pushAll = (window: Window, first: bigint, sizes: readonly number[]): Entry[] => {
  const entries = sizes.map((size, index) => entryAt(first + BigInt(index), 'x'.repeat(size)));
  for (const entry of entries) window.push(entry);
  return entries;
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
  const held = (): Entry[] => window.after(window.first!.offset - 1n, 100);
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

test('I2: what it gives after an offset is all that follows, in order, or nothing if it lacks the next', () => {
  fc.assert(
    fc.property(
      limits,
      sizes,
      fc.integer({ min: -3, max: 210 }),
      fc.integer({ min: 1, max: 70 }),
      (given, list, at, max) => {
        const window = new Window(given);
        const held = model(pushAll(window, 1n, list), given);
        const offset = BigInt(at);
        const covered = held[0] !== undefined && offset + 1n >= held[0].offset;
        expect(window.covers(offset)).toBe(covered);
        expect(window.after(offset, max)).toEqual(
          covered ? held.filter((each) => each.offset > offset).slice(0, max) : [],
        );
        expect(window.at(offset)).toBe(held.find((each) => each.offset === offset));
      },
    ),
  );
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
  expect(window.after(3n, 10).map(({ offset }) => offset)).toEqual([4n]);
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
        const next = window.after(position, 500)[0]?.offset;
        if (step === 'window') expect(next).toBe(position + 1n);
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
