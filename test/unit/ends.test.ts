// Guards what those who begin at a stream's end share: a read that began after they asked, and no other (I2).
import { expect, test } from 'vitest';
import { Ends } from '../../src/tail/ends.ts';
import type { Start } from '../../src/tail/start.ts';
import { deferred, type Deferred } from '../../src/util/deferred.ts';
import { until } from '../support/diagnostics.ts';

/** Reads begin when they are told to, and find the number of reads before them. */
const stage = (): { readonly ends: Ends; readonly begin: () => void; readonly reads: string[] } => {
  const turns: Deferred<void>[] = [];
  const reads: string[] = [];
  const pages = {
    start: async <T>(find: () => Promise<T>): Promise<T> => {
      const turn = deferred();
      turns.push(turn);
      await turn.promise;
      return find();
    },
  };
  const ends = new Ends(pages, async (stream) => {
    reads.push(stream);
    return reads.length as unknown as Start;
  });
  return { ends, begin: () => turns.shift()?.resolve(), reads };
};

test('I2: who asks before a read has begun shares it; who asks later has one of its own', async () => {
  const { ends, begin, reads } = stage();
  const early = [ends.find('a'), ends.find('a'), ends.find('b')];
  begin();
  expect(await early[0]).toBe(1);
  const late = ends.find('a');
  begin();
  begin();
  expect(await Promise.all([...early, late])).toEqual([1, 1, 2, 3]);
  expect(reads).toEqual(['a', 'b', 'a']);
});

test('I2, interleaving 31: while a read is under way it is not shared: what was committed since may be missing in it', async () => {
  const { ends, begin, reads } = stage();
  const first = ends.find('a');
  begin();
  await until(() => reads.length === 1);
  const second = ends.find('a');
  expect(reads).toEqual(['a']);
  begin();
  expect(await Promise.all([first, second])).toEqual([1, 2]);
});

test('I7: a read for which nobody waits any more is not made; one that somebody waits for is', async () => {
  const { ends, begin, reads } = stage();
  const [gone, left] = [new AbortController(), new AbortController()];
  const shared = [ends.find('a', gone.signal), ends.find('a', left.signal)];
  const other = [ends.find('b', gone.signal), ends.find('b')];
  gone.abort('gone');
  left.abort('left');
  const refused = Promise.all(shared.map((each) => expect(each).rejects.toBe('gone')));
  begin();
  begin();
  await refused;
  expect(await Promise.all(other)).toEqual([1, 1]);
  expect(reads).toEqual(['b']);
});
