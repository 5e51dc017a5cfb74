// Guards what a slow reader of notifications is told: nothing is missing without a marker at its place, whatever was
// pushed out and however many sessions came and went (I7, I8).
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { Inbox, type Notice } from '../../src/listen/inbox.ts';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;
const heapUsed = (): number => {
  collect();
  return process.memoryUsage().heapUsed;
};

type Step = 'message' | 'gap' | 'take';
const steps = fc.array(fc.constantFrom<Step[]>('message', 'message', 'message', 'gap', 'take'), {
  maxLength: 200,
});

/** What happened, in order: message numbers, and generations. */
interface Happened {
  readonly messages: number[];
  /** Of each generation, how many messages had come before it. */
  readonly gaps: Map<number, number>;
}

const run = (
  capacity: number,
  steps: readonly Step[],
): { happened: Happened; seen: Notice[]; most: number } => {
  const inbox = new Inbox(capacity);
  const happened: Happened = { messages: [], gaps: new Map() };
  const seen: Notice[] = [];
  let [generation, most] = [1, 0];
  const take = (): boolean => {
    const notice = inbox.take();
    if (notice) seen.push(notice);
    return notice !== undefined;
  };
  for (const step of steps) {
    if (step === 'take') take();
    else if (step === 'gap') {
      generation += 1;
      happened.gaps.set(generation, happened.messages.length);
      inbox.gap(generation);
    } else {
      happened.messages.push(happened.messages.length);
      inbox.message({ kind: 'message', payload: String(happened.messages.length - 1), processId: 1 });
    }
    most = Math.max(most, inbox.size);
  }
  while (take());
  return { happened, seen, most };
};

test('I7 I8: every message is read or counted as missed, at its place, and each gap stands where it fell', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 8 }), steps, (capacity, steps) => {
      const { happened, seen, most } = run(capacity, steps);
      let next = 0;
      let generation = 1;
      for (const notice of seen) {
        if (notice.kind === 'message') {
          expect(Number(notice.payload)).toBe(next);
          next += 1;
        } else if (notice.kind === 'lagged') {
          expect(notice.missed).toBeGreaterThan(0);
          next += notice.missed;
        } else {
          expect(notice.generation).toBeGreaterThan(generation);
          generation = notice.generation;
          expect(happened.gaps.get(generation)).toBe(next);
        }
      }
      expect(next).toBe(happened.messages.length);
      expect(generation).toBe(Math.max(1, ...happened.gaps.keys()));
      expect(most).toBeLessThanOrEqual(capacity);
    }),
    { numRuns: 500 },
  );
});

test('what is kept is the newest', () => {
  const { seen } = run(2, ['message', 'message', 'message', 'message']);
  expect(seen).toEqual([
    { kind: 'lagged', missed: 2 },
    { kind: 'message', payload: '2', processId: 1 },
    { kind: 'message', payload: '3', processId: 1 },
  ]);
});

test('I7: sessions without a message between them are one gap, and a reader that never reads keeps three markers', () => {
  expect(run(2, ['gap', 'gap', 'gap']).seen).toEqual([{ kind: 'gap', generation: 4 }]);
  const storm = Array.from({ length: 1000 }, (_, n): Step => (n % 3 === 0 ? 'gap' : 'message'));
  expect(run(1, storm).seen.map(({ kind }) => kind)).toEqual(['lagged', 'gap', 'lagged', 'message', 'gap']);
});

test('I7: what is read and pushed out of a large one while it fills stays in order', () => {
  const flood = Array.from({ length: 20_000 }, (_, n): Step => (n % 3 === 0 ? 'take' : 'message'));
  const { happened, seen, most } = run(5000, flood);
  let next = 0;
  for (const notice of seen) {
    if (notice.kind === 'message') expect(Number(notice.payload)).toBe(next);
    next += notice.kind === 'lagged' ? notice.missed : 1;
  }
  expect({ next, most }).toEqual({ next: happened.messages.length, most: 5000 });
});

test('I7: memory stays flat, however much goes past a reader that is slow or never reads', () => {
  const payload = 'x'.repeat(100);
  const flood = (inbox: Inbox, take: (n: number) => boolean): void => {
    for (let n = 0; n < 300_000; n += 1) {
      inbox.message({ kind: 'message', payload: `${payload}${n}`, processId: 1 });
      if (take(n)) inbox.take();
    }
  };
  for (const take of [(): boolean => false, (n: number) => n % 2 === 0]) {
    const inbox = new Inbox(256);
    for (let n = 0; n < 2; n += 1) flood(inbox, take);
    const before = heapUsed();
    for (let n = 0; n < 3; n += 1) flood(inbox, take);
    expect(inbox.size).toBe(256);
    expect(heapUsed() - before).toBeLessThan(2 ** 20);
  }
});
