// Guards what a revocation covers: the token it names, and what its principal was issued before; nothing issued since,
// and nothing of anybody else.
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { RevocationList, toRevocation, type GrantAsked } from '../../src/http/revocation-list.ts';

const grant = (more: Partial<GrantAsked>): GrantAsked => ({
  id: undefined,
  principal: null,
  issuedAtMs: undefined,
  askedAt: 0,
  ...more,
});

test('a token by its id', () => {
  const list = new RevocationList(1000);
  list.add({ tokenId: 'a' }, 0, 0);
  expect(list.covers(grant({ id: 'a' }))).toBe(true);
  expect(list.covers(grant({ id: 'b', principal: 'a' }))).toBe(false);
});

test('a principal: what was issued before, or granted before it was heard', () => {
  const list = new RevocationList(1000);
  list.add({ principal: 'ann', issuedBefore: new Date(500) }, 600, 7);
  expect(list.covers(grant({ principal: 'ann', issuedAtMs: 500 }))).toBe(true);
  expect(list.covers(grant({ principal: 'ann', issuedAtMs: 501 }))).toBe(false);
  expect(list.covers(grant({ principal: 'ann', askedAt: 7 }))).toBe(true);
  expect(list.covers(grant({ principal: 'ann', askedAt: 8 }))).toBe(false);
  expect(list.covers(grant({ principal: 'bob', id: 'ann', issuedAtMs: 1 }))).toBe(false);
  expect(list.covers(grant({ principal: null, issuedAtMs: 1 }))).toBe(false);
});

test('what was there before refuses no grant that a hook has just made', () => {
  const list = new RevocationList(1000);
  list.add({ principal: 'ann' }, 600, Number.NEGATIVE_INFINITY);
  expect(list.covers(grant({ principal: 'ann', askedAt: 0 }))).toBe(false);
  expect(list.covers(grant({ principal: 'ann', issuedAtMs: 600 }))).toBe(true);
});

test('a later entry never takes back an earlier one, and old ones go', () => {
  const list = new RevocationList(1000);
  list.add({ principal: 'ann', issuedBefore: new Date(900) }, 900, 5);
  list.add({ principal: 'ann', issuedBefore: new Date(100) }, 950, Number.NEGATIVE_INFINITY);
  list.add({ tokenId: 'a' }, 960, 5);
  expect(list.covers(grant({ principal: 'ann', issuedAtMs: 900 }))).toBe(true);
  expect(list.covers(grant({ principal: 'ann', askedAt: 5 }))).toBe(true);
  list.prune(1950);
  expect(list.size).toBe(2);
  list.prune(1951);
  expect([list.size, list.covers(grant({ id: 'a' }))]).toEqual([1, true]);
  list.prune(1961);
  expect(list.size).toBe(0);
});

test('an event that does not say whom it revokes is none', () => {
  for (const data of [
    null,
    7,
    'ann',
    [],
    {},
    { principal: '' },
    { principal: 7 },
    { tokenId: 'a', principal: 7 },
  ]) {
    expect(toRevocation(data)).toBe(undefined);
  }
  expect(toRevocation({ principal: 'ann', issuedBefore: 'yesterday' })).toBe(undefined);
  expect(toRevocation({ principal: 'ann', issuedBefore: 7 })).toBe(undefined);
  expect(toRevocation({ tokenId: 'a', note: 'x' })).toMatchObject({ tokenId: 'a' });
  fc.assert(fc.property(fc.jsonValue(), (data) => void toRevocation(data)));
});
