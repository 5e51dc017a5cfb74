// Guards I8 for connections of several streams: a position in a cursor is given to the stream it belongs to; one whose
// stream was deleted is never lost in silence while a younger stream is asked for that it may have been.
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import type { CursorPosition } from '../../src/protocol/cursor.ts';
import { assignStarts, startsFromMemory } from '../../src/tail/starts.ts';

const at = (incarnation: bigint): CursorPosition => ({ incarnation, offset: 5n, tag: 1 });
const end = { kind: 'end' } as const;

test('each stream gets its own position, others start where the reader says', () => {
  const existing = [
    { incarnation: 1n, name: 'a' },
    { incarnation: 2n, name: 'b' },
    { incarnation: 3n, name: 'not asked for' },
  ];
  const starts = assignStarts(['b', 'a', 'new'], existing, { positions: [at(1n), at(3n)], otherwise: end });
  expect([...starts]).toEqual([
    ['b', end],
    ['a', { kind: 'cursor', positions: [at(1n)] }],
    ['new', end],
  ]);
});

test('I8: a stream that was made again gets the position of the one that is gone, and so the news of it', () => {
  const existing = [
    { incarnation: 7n, name: 'again' },
    { incarnation: 2n, name: 'older' },
  ];
  const starts = assignStarts(['again', 'older'], existing, { positions: [at(4n)], otherwise: end });
  expect(starts.get('again')).toEqual({ kind: 'cursor', positions: [at(4n)] });
  expect(starts.get('older')).toEqual(end); // there before it was deleted
});

test('I8: so does one that is made again between this look and the next', () => {
  const existing = [{ incarnation: 2n, name: 'other' }];
  const starts = assignStarts(['again', 'other'], existing, {
    positions: [at(1n), at(2n)],
    otherwise: end,
  });
  expect(starts.get('again')).toEqual({ kind: 'cursor', positions: [at(1n)] });
});

test('memory answers only when it knows every stream', () => {
  const names = new Map([
    [1n, 'a'],
    [2n, 'b'],
  ]);
  const nameOf = (incarnation: bigint): string | undefined => names.get(incarnation);
  const both = { positions: [at(2n), at(1n)], otherwise: end };
  expect([...(startsFromMemory(['a', 'b'], both, nameOf)?.keys() ?? [])].sort()).toEqual(['a', 'b']);
  expect(startsFromMemory(['a', 'b', 'c'], both, nameOf)).toBeUndefined();
  expect(startsFromMemory(['a'], { positions: [at(9n)], otherwise: end }, nameOf)?.get('a')).toEqual({
    kind: 'cursor',
    positions: [at(9n)],
  });
});

test('no stream ever gets the position of another that exists', () => {
  const ids = fc.uniqueArray(fc.bigInt(1n, 12n), { maxLength: 8 });
  fc.assert(
    fc.property(ids, ids, (living, inCursor) => {
      const existing = living.map((incarnation) => ({ incarnation, name: `s${incarnation}` }));
      const streams = existing.map(({ name }) => name);
      const starts = assignStarts(streams, existing, { positions: inCursor.map(at), otherwise: end });
      for (const { incarnation, name } of existing) {
        const start = starts.get(name);
        const given = start?.kind === 'cursor' ? start.positions[0]?.incarnation : undefined;
        if (inCursor.includes(incarnation)) expect(given).toBe(incarnation);
        else if (given !== undefined) expect(living.includes(given) || given > incarnation).toBe(false);
      }
    }),
  );
});
