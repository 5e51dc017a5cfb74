// The random tags of appended events: as many as are asked for, none given out twice.
import { expect, test } from 'vitest';
import { Tags } from '../../src/log/tags.ts';

test('every take has its own tags, however many were taken before', () => {
  const tags = new Tags();
  const taken = [1, 3, 1020, 1, 1024, 5, 5000, 2, 1023].map((count) => ({ count, got: tags.take(count) }));
  for (const { count, got } of taken) expect(got).toHaveLength(count);
  const all = taken.flatMap(({ got }) => [...got]);
  // 32 random bits each: of 8 079 about 8 meet by chance, and hundreds would if any were given out again.
  expect(new Set(all).size).toBeGreaterThan(all.length - 50);
  expect(all.filter((tag) => tag === 0).length).toBeLessThan(5);
});

test('what was taken stays as it is', () => {
  const tags = new Tags();
  const first = tags.take(2);
  const before = [...first];
  for (let n = 0; n < 3000; n += 1) tags.take(1);
  expect([...first]).toEqual(before);
});
