// Owns chance in tests: one seed decides everything that a workload chooses, is told when it fails, and can be given
// again: `SLUICE_SEED=… npx vitest run <file>`. What the scheduler and the server choose is not in it.
import { onTestFailed } from 'vitest';

export interface Random {
  /** In [0, 1). */
  next(): number;
  /** A whole number from 0 to below `bound`. */
  below(bound: number): number;
  chance(probability: number): boolean;
  pick<T>(items: readonly T[]): T;
}

/** mulberry32, by Tommy Ettinger (public domain): small, and good enough to choose among a few. */
export function randomFrom(seed: number): Random {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (bound: number): number => Math.floor(next() * bound);
  return {
    next,
    below,
    chance: (probability) => next() < probability,
    pick: (items) => {
      const item = items[below(items.length)];
      if (item === undefined) throw new RangeError('there is nothing to pick from');
      return item;
    },
  };
}

/** Runs a test's `work` with a seed; if the test fails, or does not end in time, says how to run it again. */
export async function withSeed(work: (seed: number) => Promise<void>): Promise<void> {
  const given = process.env['SLUICE_SEED'];
  const seed = given === undefined ? Math.floor(Math.random() * 2 ** 32) : Number(given);
  onTestFailed(() => void process.stderr.write(`SLUICE_SEED=${seed} runs this again\n`));
  await work(seed);
}
