// Guards the payloads that wake readers: what one process writes another understands, within NOTIFY's limit, and what
// anybody else sends means no more than "look" (I4).
import * as fc from 'fast-check';
import { expect, onTestFinished, test, vi } from 'vitest';
import type { Database } from '../../src/db/database.ts';
import { decodeHeads, encodeHeads, ReaderBell, restFor } from '../../src/log/reader-bell.ts';
import { silentLogger } from '../../src/util/logger.ts';

const incarnation = fc.bigInt({ min: 1n, max: 2n ** 63n - 1n });
const head = fc.bigInt({ min: 0n, max: 2n ** 63n - 1n });
const heads = fc
  .array(fc.tuple(incarnation, head), { minLength: 1, maxLength: 2000, size: 'max' })
  .map((list) => new Map(list));

test('I4: every stream rung for is named in some payload, once, and each payload fits a notification', () => {
  fc.assert(
    fc.property(heads, (given) => {
      const payloads = encodeHeads(given);
      for (const payload of payloads) expect(Buffer.byteLength(payload)).toBeLessThan(8000);
      const decoded = payloads.flatMap((payload) => decodeHeads(payload) ?? []);
      expect(decoded).toEqual([...given].map(([id, at]) => ({ incarnation: id, head: at })));
    }),
    { numRuns: 30 },
  );
});

test('I7: past the bound one payload says only that something is new', () => {
  const many = new Map(Array.from({ length: 2001 }, (_, index) => [BigInt(index + 1), 1n]));
  expect(encodeHeads(many)).toEqual(['']);
  expect(decodeHeads('')).toBeUndefined();
});

test('I7: many events a second share a notification, few do not wait for more', () => {
  expect([0, 0.5, 2].map(restFor)).toEqual([2, 2, 2]);
  expect([5, 10, 1000, Infinity].map(restFor)).toEqual([5, 10, 10, 10]);
});

test('I4: a payload nobody of us wrote names no stream', () => {
  for (const payload of [
    '1',
    '1:',
    ':1',
    '1:2:3',
    '1:2,',
    ',1:2',
    '1:2,,3:4',
    '-1:2',
    '1:2\n',
    ' 1:2',
    'a:1',
    '{"a":1}',
    `${'1'.repeat(20)}:1`,
    '\0',
  ]) {
    expect(decodeHeads(payload), JSON.stringify(payload)).toBeUndefined();
  }
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 40 }), (payload) => {
      const decoded = decodeHeads(payload);
      if (decoded) expect(payload).toMatch(/^[0-9:,]+$/);
    }),
  );
});

test('I7, interleaving 32: commits tell readers themselves only where that is rare, and not where it took long', async () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  onTestFinished(() => void vi.useRealTimers());
  // What a commit tells needs no database.
  const bell = new ReaderBell({} as Database, silentLogger, 'readers');
  const commit = async (ms: number, something = true): Promise<boolean> =>
    bell.commit(
      async (mayRing) => {
        vi.advanceTimersByTime(ms);
        return Promise.resolve(mayRing);
      },
      (rang) => (rang && something ? 1 : 0),
    );
  expect(await commit(60, false)).toBe(true); // had nothing to tell, so it waited for nobody who notifies
  expect(await commit(5)).toBe(true);
  expect(await commit(5)).toBe(false);
  vi.advanceTimersByTime(20);
  expect(await commit(60)).toBe(true);
  vi.advanceTimersByTime(9000);
  expect(await commit(5)).toBe(false);
  vi.advanceTimersByTime(1000);
  expect(await commit(5)).toBe(true);
  vi.advanceTimersByTime(20);
  const failing = bell.commit(
    async () => {
      vi.advanceTimersByTime(60);
      return Promise.reject(new Error('canceled'));
    },
    () => 1,
  );
  await expect(failing).rejects.toThrow('canceled');
  vi.advanceTimersByTime(9000);
  expect(await commit(5)).toBe(false);
});

test('I4: streams that moved together are told in one notification', async () => {
  const sent: unknown[] = [];
  const query = async (_: string, values: unknown[]): Promise<unknown[]> => {
    sent.push(values[1]);
    return Promise.resolve([]);
  };
  const bell = new ReaderBell({ query } as unknown as Database, silentLogger, 'readers');
  for (const id of [1n, 2n, 3n]) bell.ring(id, 7n);
  await bell.close();
  expect(sent).toEqual([['1:7,2:7,3:7']]);
});
