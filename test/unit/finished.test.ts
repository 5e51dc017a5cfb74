// Guards how the end of a lease gets to the database: with a claim, or by itself when none comes, fails or is slow (I5).
import { expect, test } from 'vitest';
import { Finished } from '../../src/groups/finished.ts';

const HOUR_MS = 3_600_000;

test('a claim takes along what was finished, and says what it could not tell', async () => {
  const finished = new Finished(HOUR_MS);
  const told = [finished.isTold('a'), finished.isTold('b')];
  const claim = finished.take();
  expect(claim.tokens).toEqual(['a', 'b']);
  expect(finished.take().tokens).toEqual([]);
  claim.answered(['b']);
  expect(await Promise.all(told)).toEqual([true, false]);
});

test('without a claim it is told by itself, and so it is behind a claim that does not come back', async () => {
  const finished = new Finished(1);
  expect(await finished.isTold('a')).toBe(false);
  const told = finished.isTold('b');
  const claim = finished.take();
  expect(claim.tokens).toEqual(['b']);
  expect(await told).toBe(false);
  claim.answered([]);
});

test('at the end nothing waits any more', async () => {
  const finished = new Finished(HOUR_MS);
  const told = finished.isTold('a');
  finished.close();
  expect(await told).toBe(false);
  expect(await finished.isTold('b')).toBe(false);
});
