// Guards the turns of those who start reading: bounded, and not spent on whoever has left (I7).
import { expect, test } from 'vitest';
import type { Database } from '../../src/db/database.ts';
import type { Behind } from '../../src/tail/nearby.ts';
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

const stream = { name: 's', incarnation: 1n };

/** Pages of which one is read at a time, all slots taken until `free` is called; each read is noted, and finds no stream. */
const crowded = (): { readonly pages: Pages; readonly free: () => void; readonly reads: unknown[] } => {
  const reads: unknown[] = [];
  const rows = async (_: string, values: readonly unknown[]): Promise<[]> => {
    reads.push(values[1]);
    return [];
  };
  const database = { rows, names: { quoted: 's' } } as unknown as Database;
  const shelf = { maxBytes: 0, keepMs: 1 };
  const pages = new Pages(database, { maxReads: 1, shelf, signal: new AbortController().signal });
  const busy = deferred();
  void pages.start(() => busy.promise);
  return { pages, free: busy.resolve, reads };
};

const reader = (offset: bigint, signal?: AbortSignal): Behind => ({
  standing: { incarnation: 1n, offset, tag: 0 },
  upTo: () => 1000n,
  signal,
});

test('I7: a page that nobody wants any more when its turn comes is not read', async () => {
  const { pages, free, reads } = crowded();
  const leaving = new AbortController();
  const gone = [5n, 7n].map((offset) => pages.near(stream, reader(offset, leaving.signal)));
  leaving.abort('left');
  free();
  for (const each of gone) await expect(each).rejects.toThrow('has left');
  expect(reads).toEqual([]);
});

test.each<[string, (pages: Pages) => Promise<unknown>]>([
  ['another who comes back', (pages) => pages.near(stream, reader(7n, new AbortController().signal))],
  ['one that catches up', (pages) => pages.catchUp(stream, reader(7n), { alone: false })],
  ['the tail', (pages) => pages.readLive(stream, 5n)],
])('I7, interleaving C6: one that is shared with %s is read', async (_, share) => {
  const { pages, free, reads } = crowded();
  const leaving = new AbortController();
  const asked = [pages.near(stream, reader(5n, leaving.signal)), share(pages)];
  leaving.abort('left');
  free();
  expect(await Promise.all(asked)).toEqual([undefined, undefined]);
  expect(reads[0]).toBe('5');
});
