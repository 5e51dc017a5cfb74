// Guards the turns of those who start reading: bounded, and not spent on whoever has left (I7).
import { expect, test } from 'vitest';
import type { Database } from '../../src/db/database.ts';
import { Pages } from '../../src/tail/pages.ts';
import { deferred } from '../../src/util/deferred.ts';

test('I7: who has left when its turn comes is not looked for', async () => {
  const { signal } = new AbortController();
  const shelf = { maxBytes: 0, keepMs: 1 };
  const pages = new Pages({} as Database, { maxReads: 1, shelf, signal });
  const busy = deferred();
  const first = pages.start(() => busy.promise);
  const leaving = new AbortController();
  const looked: string[] = [];
  const look = (who: string) => async (): Promise<void> => void looked.push(who);
  const gone = pages.start(look('gone'), leaving.signal);
  const stays = pages.start(look('stays'));
  leaving.abort('left');
  busy.resolve();
  await expect(gone).rejects.toBe('left');
  await Promise.all([first, stays]);
  expect(looked).toEqual(['stays']);
});
