// Guards the payloads that wake readers: what one process writes another understands, within NOTIFY's limit, and what
// anybody else sends means no more than "look" (I4).
import * as fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import type { Database } from '../../src/db/database.ts';
import { decodeHeads, encodeHeads, ReaderBell } from '../../src/log/reader-bell.ts';
import { deferred } from '../../src/util/deferred.ts';
import { silentLogger } from '../../src/util/logger.ts';
import { until } from '../support/diagnostics.ts';

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

/** A bell whose statements are kept instead of sent; they resolve when let. */
const keepBell = (): { bell: ReaderBell; sent: unknown[]; letGo: () => void } => {
  const sent: unknown[] = [];
  const letting = deferred();
  const query = async (_: string, values: unknown[]): Promise<unknown[]> => {
    sent.push(values[1]);
    await letting.promise;
    return [];
  };
  const bell = new ReaderBell({ query } as unknown as Database, silentLogger, 'readers');
  return { bell, sent, letGo: () => letting.resolve() };
};

test('I4: streams that moved together are told in one notification', async () => {
  const { bell, sent, letGo } = keepBell();
  letGo();
  for (const id of [1n, 2n, 3n]) bell.ring(id, 7n);
  await bell.close();
  expect(sent).toEqual([['1:7,2:7,3:7']]);
});

test('I4: while a statement tells readers, no commit does', async () => {
  const { bell, sent, letGo } = keepBell();
  bell.ring(1n, 1n);
  await until(() => sent.length === 1);
  const rung = vi.fn<() => undefined>();
  expect(await bell.commit((may) => Promise.resolve(may), rung)).toBe(false);
  expect(rung).not.toHaveBeenCalled();
  letGo();
  await bell.close();
});
