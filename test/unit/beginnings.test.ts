// Guards what those share who begin at one place of a stream, most of them at its end: a read that began after they asked, and no other (I2).
import { expect, test } from 'vitest';
import { Beginnings } from '../../src/tail/beginnings.ts';
import type { Start } from '../../src/tail/start.ts';
import { deferred, type Deferred } from '../../src/util/deferred.ts';
import { until } from '../support/diagnostics.ts';

const END = { kind: 'end' } as const;
const START = { kind: 'start' } as const;

/** Reads begin when they are told to, and find the number of reads before them. */
const stage = (): { readonly ends: Beginnings; readonly begin: () => void; readonly reads: string[] } => {
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
  const ends = new Beginnings(pages, async (stream, after) => {
    reads.push(after.kind === 'end' ? stream : `${stream} ${after.kind}`);
    return reads.length as unknown as Start;
  });
  return { ends, begin: () => turns.shift()?.resolve(), reads };
};

test('I2: who asks before a read has begun shares it; who asks later has one of its own', async () => {
  const { ends, begin, reads } = stage();
  const early = [ends.find('a', END), ends.find('a', END), ends.find('b', END)];
  begin();
  expect(await early[0]).toBe(1);
  const late = ends.find('a', END);
  begin();
  begin();
  expect(await Promise.all([...early, late])).toEqual([1, 1, 2, 3]);
  expect(reads).toEqual(['a', 'b', 'a']);
});

test('I2, interleaving 31: while a read is under way it is not shared: what was committed since may be missing in it', async () => {
  const { ends, begin, reads } = stage();
  const first = ends.find('a', END);
  begin();
  await until(() => reads.length === 1);
  const second = ends.find('a', END);
  expect(reads).toEqual(['a']);
  begin();
  expect(await Promise.all([first, second])).toEqual([1, 2]);
});

test('I7: a read for which nobody waits any more is not made; one that somebody waits for is', async () => {
  const { ends, begin, reads } = stage();
  const [gone, left] = [new AbortController(), new AbortController()];
  const shared = [ends.find('a', END, gone.signal), ends.find('a', END, left.signal)];
  const other = [ends.find('b', END, gone.signal), ends.find('b', END)];
  gone.abort('gone');
  left.abort('left');
  const refused = Promise.all(shared.map((each) => expect(each).rejects.toBe('gone')));
  begin();
  begin();
  await refused;
  expect(await Promise.all(other)).toEqual([1, 1]);
  expect(reads).toEqual(['b']);
});

test('I7: so do those who begin at the start, or after the same offset, and none who begins elsewhere', async () => {
  const { ends, begin, reads } = stage();
  const after = (offset: bigint) => ({ kind: 'offset', offset }) as const;
  const asked = [START, START, after(5n), after(5n), after(6n), END].map((place) => ends.find('a', place));
  for (let n = 0; n < 4; n += 1) begin();
  expect(await Promise.all(asked)).toEqual([1, 1, 2, 2, 3, 4]);
  expect(reads).toEqual(['a start', 'a offset', 'a offset', 'a']);
});
