// Guards the order of calls that wait (I1): whatever becomes ready first, fails, is abandoned or hangs, what was called
// earlier is sent earlier, and nothing waits for ever behind a call that does.
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { Budget } from '../../src/log/budget.ts';
import { Turns } from '../../src/log/turns.ts';
import { deferred } from '../../src/util/deferred.ts';

const LONG_MS = 60_000;

test('I1: in any order of becoming ready, failing and being abandoned, calls are sent in their order', async () => {
  const fates = fc.array(
    fc.record({ fate: fc.constantFrom('ready', 'late', 'fails', 'aborted'), priority: fc.nat() }),
    { maxLength: 12 },
  );
  await fc.assert(
    fc.asyncProperty(fates, async (calls) => {
      const turns = new Turns();
      const sent: number[] = [];
      const gates = calls.map(({ fate }) => ({ fate, ready: deferred(), stop: new AbortController() }));
      const outcomes = gates.map(({ fate, ready, stop }, index) =>
        turns.take(
          { ready: fate === 'ready' ? undefined : ready.promise, waitMs: LONG_MS, signal: stop.signal },
          () => Promise.resolve(sent.push(index)),
        ),
      );
      const settled = Promise.allSettled(outcomes);
      const order = calls.map((_, index) => index).sort((a, b) => calls[a]!.priority - calls[b]!.priority);
      for (const index of order) {
        const { fate, ready, stop } = gates[index]!;
        if (fate === 'fails') ready.reject(new Error('refused'));
        else if (fate === 'aborted') stop.abort(new Error('abandoned'));
        else ready.resolve();
        if (calls[index]!.priority % 2) await Promise.resolve();
      }
      const results = (await settled).map(({ status }) => status);
      const wanted = calls.flatMap(({ fate }, index) => (fate === 'ready' || fate === 'late' ? [index] : []));
      expect(sent).toEqual(wanted);
      expect(results).toEqual(calls.map((_, index) => (wanted.includes(index) ? 'fulfilled' : 'rejected')));
      expect(turns.free).toBe(true);
    }),
  );
});

test('the next is sent when the one before was sent, not when that is done', async () => {
  const turns = new Turns();
  const done = deferred();
  const first = turns.take(
    { ready: Promise.resolve(), waitMs: LONG_MS, signal: undefined },
    () => done.promise,
  );
  await turns.take({ ready: undefined, waitMs: LONG_MS, signal: undefined }, () => Promise.resolve());
  done.resolve();
  await first;
});

test('I7: what waits behind a call that hangs is refused, and the order still holds after that', async () => {
  const turns = new Turns();
  const hung = deferred();
  const sent: string[] = [];
  const send = (name: string) => () => Promise.resolve(sent.push(name));
  const first = turns.take({ ready: hung.promise, waitMs: LONG_MS, signal: undefined }, send('first'));
  const behind = turns.take({ ready: undefined, waitMs: 1, signal: undefined }, send('behind'));
  await expect(behind).rejects.toMatchObject({ code: 'overloaded', retryable: true });
  const last = turns.take({ ready: undefined, waitMs: LONG_MS, signal: undefined }, send('last'));
  hung.resolve();
  await Promise.all([first, last]);
  expect(sent).toEqual(['first', 'last']);
});

test('aborted in the very tick in which it became ready: not sent', async () => {
  const turns = new Turns();
  const stop = new AbortController();
  const ready = deferred();
  const call = turns.take({ ready: ready.promise, waitMs: LONG_MS, signal: stop.signal }, () => {
    throw new Error('sent');
  });
  ready.resolve();
  stop.abort(new Error('stopped'));
  await expect(call).rejects.toThrow('stopped');
});

test('I7: a budget refuses what is over it, but not what is alone, and takes back once', () => {
  const budget = new Budget({ maxEvents: 2, maxBytes: 10 });
  budget.take(5, 100)();
  const back = budget.take(1, 9);
  expect(() => budget.take(2, 1)).toThrow(/1 events \(9 bytes\) wait/);
  expect(() => budget.take(1, 2)).toThrow(expect.objectContaining({ code: 'overloaded' }));
  back();
  back();
  budget.take(2, 10);
  expect(() => budget.take(1, 0)).toThrow(/2 events/);
});
