// Guards what is counted of groups: each by its names, as many as are told apart and no more, until it is closed; and
// that the database is asked how far they are once in a while, however many ask.
import { expect, test } from 'vitest';
import { GroupActivity, MAX_GROUPS } from '../../src/http/group-activity.ts';
import { keptFor } from '../../src/http/group-metrics.ts';
import { deferred } from '../../src/util/deferred.ts';
import { report } from '../../src/util/diagnostics.ts';

const claimed = (stream: string, group: string): void =>
  report('sluice:group.claimed', () => ({ stream, group, events: 5, more: false, ms: 1 }));

test('I7: groups beyond the bound share their counts, those before keep theirs', () => {
  const activity = new GroupActivity();
  for (let n = 0; n < MAX_GROUPS + 50; n += 1) claimed(`stream ${n}`, 'g');
  claimed('stream 0', 'g');
  claimed('stream 0', 'h');
  const { counts } = activity;
  expect(counts).toHaveLength(MAX_GROUPS + 1);
  expect(counts[0]).toMatchObject({ stream: 'stream 0', group: 'g', claims: 2, events: 10 });
  expect(counts.at(-1)).toMatchObject({ stream: null, group: null, claims: 51, events: 255 });
  activity.close();
  claimed('stream 0', 'g');
  expect(activity.counts[0]).toMatchObject({ claims: 2 });
});

test('each message has its count', () => {
  const activity = new GroupActivity();
  const names = { stream: 's', group: 'g' };
  claimed('s', 'g');
  report('sluice:group.failed', () => ({ ...names, offset: 1n, attempt: 1, events: 3, error: 'x' }));
  report('sluice:group.died', () => ({ ...names, events: 2 }));
  report('sluice:group.lost', () => ({ ...names, error: 'x' }));
  report('sluice:group.missed', () => ({ ...names, events: 4 }));
  activity.close();
  expect(activity.counts).toEqual([
    { ...names, claims: 1, events: 5, failures: 1, dead: 2, lost: 1, missed: 4 },
  ]);
});

test('I7: an answer is asked for once at a time, and anew when it is old enough', async () => {
  let [nowMs, looks, answer] = [0, 0, deferred<number>()];
  const ask = keptFor(
    10,
    async () => {
      looks += 1;
      return answer.promise;
    },
    () => nowMs,
  );
  const slow = [ask(), ask()];
  nowMs = 100; // the first takes long: nobody asks beside it
  slow.push(ask());
  answer.resolve(1);
  expect([await Promise.all(slow), looks]).toEqual([[1, 1, 1], 1]);
  answer = deferred<number>();
  answer.resolve(2);
  nowMs = 109;
  expect([await ask(), looks]).toEqual([1, 1]);
  nowMs = 110;
  expect([await ask(), await ask(), looks]).toEqual([2, 2, 2]);
});
