// Guards how the end of a lease gets to the database: with a claim, or by itself when none comes, fails or is slow (I5).
import { expect, test } from 'vitest';
import { Finished } from '../../src/groups/finished.ts';

const HOUR_MS = 3_600_000;

/** Whether it was told by itself; `refuse`: in vain. */
function tell(finished: Finished, token: string, refuse = false): { bySelf: boolean; told: Promise<void> } {
  const telling = { bySelf: false, told: Promise.resolve() };
  telling.told = finished.tell(token, async () => {
    telling.bySelf = true;
    return refuse ? Promise.reject(new Error('refused')) : Promise.resolve();
  });
  return telling;
}

test('a claim takes along what was finished, and says what it could not tell', async () => {
  const finished = new Finished(HOUR_MS);
  const telling = [tell(finished, 'a'), tell(finished, 'b')];
  const claim = finished.take();
  expect(claim.tokens).toEqual(['a', 'b']);
  expect(finished.take().tokens).toEqual([]);
  claim.answered(['b']);
  await Promise.all(telling.map(({ told }) => told));
  expect(telling.map(({ bySelf }) => bySelf)).toEqual([false, true]);
});

test('without a claim it is told by itself, and so it is behind a claim that does not come back', async () => {
  const finished = new Finished(1);
  const first = tell(finished, 'a');
  await first.told;
  expect(first.bySelf).toBe(true);
  const second = tell(finished, 'b');
  expect(finished.take().tokens).toEqual(['b']);
  await second.told;
  expect(second.bySelf).toBe(true);
});

test('refused because a late claim was first, it is told; if that was not, or nobody knows, it is refused', async () => {
  const finished = new Finished(1);
  const outcomes = ['told', 'kept', 'unknown'].map(async (outcome) => {
    const telling = tell(finished, outcome, true);
    const claim = finished.take();
    const isLate = new Promise<void>((resolve) => {
      const look = (): unknown => (telling.bySelf ? resolve() : setImmediate(look));
      look();
    });
    await isLate;
    if (outcome === 'unknown') claim.failed(new Error('no answer'));
    else claim.answered(outcome === 'kept' ? ['kept'] : []);
    return telling.told.then(
      () => 'told',
      (error: Error) => error.message,
    );
  });
  expect(await Promise.all(outcomes)).toEqual(['told', 'refused', 'no answer']);
});

test('after a claim that failed it is told by itself', async () => {
  const finished = new Finished(HOUR_MS);
  const telling = tell(finished, 'a');
  finished.take().failed(new Error('no answer'));
  await telling.told;
  expect(telling.bySelf).toBe(true);
});

test('at the end nothing waits any more', async () => {
  const finished = new Finished(HOUR_MS);
  const first = tell(finished, 'a');
  finished.close();
  await first.told;
  const second = tell(finished, 'b');
  await second.told;
  expect([first.bySelf, second.bySelf]).toEqual([true, true]);
});
