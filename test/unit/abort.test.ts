// Guards waiting that can be ended: whoever waits is told once, nobody after letting go, and however many wait for a signal,
// it has one listener, and none when they have gone.
import { getEventListeners } from 'node:events';
import { describe, expect, test } from 'vitest';
import { nap, onAbort, requireSignal, waitOrAbort } from '../../src/util/abort.ts';

const listeners = (signal: AbortSignal): number => getEventListeners(signal, 'abort').length;
const never = new Promise<void>(() => {});
const HOUR_MS = 3_600_000;

describe('I7: a signal that many wait for', () => {
  test('has one listener, whatever they wait with, and tells all of them', async () => {
    const ending = new AbortController();
    const { signal } = ending;
    let told = 0;
    const naps = Array.from({ length: 20 }, async () => nap(HOUR_MS, signal).done);
    const waits = Array.from({ length: 20 }, async () => waitOrAbort(never, signal).catch(() => (told += 1)));
    for (let count = 0; count < 20; count += 1) onAbort(signal, () => (told += 1));
    expect(listeners(signal)).toBe(1);
    ending.abort();
    await Promise.all([...naps, ...waits]);
    expect(told).toBe(40);
    expect(listeners(signal)).toBe(0);
  });

  test('has none when they have gone, and one again when others come', async () => {
    const ending = new AbortController();
    const { signal } = ending;
    await Promise.all(Array.from({ length: 20 }, async () => nap(1, signal).done));
    await waitOrAbort(Promise.resolve(), signal);
    expect(listeners(signal)).toBe(0);
    const told: string[] = [];
    const letGo = onAbort(signal, () => told.push('gone'));
    onAbort(signal, () => told.push('here'));
    letGo();
    letGo();
    expect(listeners(signal)).toBe(1);
    ending.abort();
    expect(told).toEqual(['here']);
  });

  test('tells nobody who is let go of while it tells, or who comes too late', () => {
    const ending = new AbortController();
    const { signal } = ending;
    const told: string[] = [];
    onAbort(signal, () => {
      told.push('first');
      letGo();
    });
    const letGo = onAbort(signal, () => told.push('second'));
    ending.abort();
    onAbort(signal, () => told.push('late'))();
    expect(told).toEqual(['first']);
    expect(listeners(signal)).toBe(0);
  });
});

test('what is no signal is refused', () => {
  requireSignal(undefined);
  requireSignal(new AbortController().signal);
  expect(() => requireSignal({} as AbortSignal)).toThrow('give an AbortSignal');
});

describe('I11: a nap', () => {
  const holding = (): number =>
    process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length;

  test('keeps the process alive if it is to hold it, until it is ended', async () => {
    const ending = new AbortController();
    const before = holding();
    const idle = nap(HOUR_MS, ending.signal);
    expect(holding()).toBe(before);
    const held = [nap(HOUR_MS, ending.signal, true), nap(HOUR_MS, ending.signal, true)];
    expect(holding()).toBe(before + 2);
    held[0]!.wake();
    ending.abort();
    await Promise.all([idle, ...held].map(({ done }) => done));
    expect(holding()).toBe(before);
  });

  test('that comes too late is over at once and holds nothing', async () => {
    const before = holding();
    await nap(HOUR_MS, AbortSignal.abort(), true).done;
    expect(holding()).toBe(before);
  });
});
