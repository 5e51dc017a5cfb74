// Guards the state machine of the client's connections: total, absorbing ends, waits within their bounds whatever is
// said by whom, and no way to stay away for ever (I2) or to hammer a server.
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { next, type LineInput, type LineState, type Pace, type Problem } from '../../src/client/state.ts';

const problem: Problem = { status: 503, title: 'Busy', detail: 'come back' };
const pace = (more: Partial<Pace> = {}): Pace => ({
  initialMs: 1000,
  maxMs: 30_000,
  refusedRetryMs: 20_000,
  canRefresh: false,
  nowMs: 0,
  random: 0.5,
  ...more,
});

const ms = fc.integer({ min: 0, max: 100_000 });
const inputs: fc.Arbitrary<LineInput> = fc.oneof(
  fc.constantFrom<LineInput>(
    { kind: 'restart' },
    { kind: 'opened' },
    { kind: 'split' },
    { kind: 'elapsed' },
    { kind: 'wake' },
    { kind: 'rejected', problem },
  ),
  fc.record({ kind: fc.constant('lost' as const), waitMs: ms }),
  fc.record({ kind: fc.constant('refused' as const), problem: fc.constant(problem), waitMs: ms }),
);
const steps = fc.array(
  fc.tuple(
    inputs,
    fc.record({
      nowMs: ms,
      random: fc.double({ min: 0, max: 0.999, noNaN: true }),
      canRefresh: fc.boolean(),
    }),
  ),
  { maxLength: 60 },
);
const idle = { kind: 'idle', attempt: 0 } as LineState;

const run = (from: LineState, ...all: LineInput[]): LineState =>
  all.reduce((state, input) => next(state, input, pace()), from);
const connecting = run(idle, { kind: 'restart' });
const live = run(connecting, { kind: 'opened' });

test('total: any input in any state gives a state, and what is ignored the same object', () => {
  fc.assert(
    fc.property(steps, (steps) => {
      let state: LineState = idle;
      for (const [input, more] of steps) {
        const after = next(state, input, pace(more));
        expect(['idle', 'connecting', 'live', 'waiting', 'refused', 'failed', 'closed']).toContain(
          after.kind,
        );
        if (input.kind === 'opened' && state.kind !== 'connecting') expect(after).toBe(state);
        state = after;
      }
      expect(next(state, { kind: 'close' }, pace())).toEqual({ kind: 'closed' });
      const closed = next(state, { kind: 'close' }, pace());
      for (const [input, more] of steps) expect(next(closed, input, pace(more))).toBe(closed);
    }),
  );
});

test('I2: whoever waits or is refused asks again when the time is over', () => {
  fc.assert(
    fc.property(steps, (steps) => {
      let state = connecting;
      for (const [input, more] of steps) {
        state = next(state, input, pace(more));
        if (state.kind === 'waiting' || state.kind === 'refused') {
          expect(state.delayMs).toBeGreaterThanOrEqual(0);
          expect(Number.isFinite(state.delayMs)).toBe(true);
          expect(next(state, { kind: 'elapsed' }, pace()).kind).toBe('connecting');
        }
      }
    }),
  );
});

describe('waiting', () => {
  test('grows while nothing is reached, up to its cap, with full jitter from what the server said', () => {
    let state = connecting;
    const longest: number[] = [];
    for (let attempt = 0; attempt < 7; attempt += 1) {
      state = next(state, { kind: 'lost' }, pace({ random: 1, initialMs: 2000 }));
      if (state.kind === 'waiting') longest.push(state.delayMs);
      expect(next(connecting, { kind: 'lost' }, pace({ random: 0 }))).toMatchObject({ delayMs: 0 });
      state = next(state, { kind: 'elapsed' }, pace());
    }
    expect(longest).toEqual([2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
  });

  test('begins anew after a connection that lasted, and not after one that did not', () => {
    const tried = run(
      connecting,
      { kind: 'lost' },
      { kind: 'elapsed' },
      { kind: 'lost' },
      { kind: 'elapsed' },
    );
    const opened = next(tried, { kind: 'opened' }, pace({ nowMs: 0 }));
    expect(next(opened, { kind: 'lost' }, pace({ nowMs: 100 }))).toMatchObject({ attempt: 3 });
    expect(next(opened, { kind: 'lost' }, pace({ nowMs: 10_000 }))).toMatchObject({ attempt: 1 });
  });

  test('is never shorter than Retry-After or shutdown say, and no wake-up shortens that', () => {
    for (const state of [
      next(connecting, { kind: 'lost', problem, waitMs: 5000 }, pace()),
      next(live, { kind: 'lost', waitMs: 5000 }, pace()),
    ]) {
      expect(state).toMatchObject({ kind: 'waiting', firm: true });
      expect(state.kind === 'waiting' && state.delayMs).toBeGreaterThanOrEqual(5000);
      expect(run(state, { kind: 'wake' }, { kind: 'restart' })).toBe(state);
    }
  });

  test('ends when the network is back or the page is seen', () => {
    expect(run(live, { kind: 'lost' }, { kind: 'wake' }).kind).toBe('connecting');
    expect(run(live, { kind: 'wake' })).toBe(live);
  });
});

describe('a refusal', () => {
  const refused: LineInput = { kind: 'refused', problem, waitMs: 0 };

  test('asks for headers once more, at once, and then again only slowly', () => {
    const again = next(connecting, refused, pace({ canRefresh: true }));
    expect(again).toEqual({ kind: 'connecting', attempt: 0, refused: problem });
    const slow = next(again, refused, pace({ canRefresh: true }));
    expect(slow).toMatchObject({ kind: 'refused', delayMs: 20_000, problem });
    const later = next(slow, { kind: 'elapsed' }, pace({ canRefresh: true }));
    expect(later).toMatchObject({ kind: 'connecting', refused: problem });
    expect(next(later, refused, pace({ canRefresh: true })).kind).toBe('refused');
  });

  test('is not asked again at once where headers cannot change', () => {
    expect(next(connecting, refused, pace())).toMatchObject({ kind: 'refused', delayMs: 20_000 });
    expect(next(connecting, { ...refused, waitMs: 60_000 }, pace())).toMatchObject({ delayMs: 60_000 });
  });

  test('of several streams is asked for in parts, after a wait that grows with every part', () => {
    let state = connecting;
    const attempts: number[] = [];
    for (let round = 0; round < 4; round += 1) {
      state = run(state, refused, { kind: 'split' });
      if (state.kind === 'waiting') attempts.push(state.attempt);
      state = run(state, { kind: 'elapsed' });
    }
    expect(attempts).toEqual([...attempts].sort((a, b) => a - b));
    expect(new Set(attempts).size).toBe(4);
    const split = run(state, { kind: 'rejected', problem }, { kind: 'split' });
    expect(split).toMatchObject({ kind: 'waiting', attempt: attempts.at(-1)! + 1 });
  });

  test('for good stays', () => {
    const failed = run(connecting, { kind: 'rejected', problem });
    expect(failed).toEqual({ kind: 'failed', attempt: 0, problem });
    expect(run(failed, { kind: 'restart' }, { kind: 'elapsed' }, { kind: 'wake' })).toBe(failed);
  });
});
