// Guards the judge of I8. Its verdict on a page is compared with what is true of two histories of one stream: a reader
// may go on only if all it has seen is still the past of what it is about to see.
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { EventRecord } from '../../src/log/event.ts';
import { headStanding, locate, oldestStanding, type StreamState } from '../../src/log/locate.ts';
import { recordAt } from '../support/records.ts';

const incarnation = 3n;

/** What a page read returns for a history (its tags, from offset 1 on) of which the first `trimmed` are gone. */
const page = (
  tags: readonly number[],
  trimmed: number,
  offset: bigint,
): { state: StreamState; rows: EventRecord[] } => {
  const rows = tags.map((tag, index) => recordAt(BigInt(index + 1), tag)).slice(trimmed);
  return {
    state: {
      incarnation,
      trimmedTo: BigInt(trimmed),
      trimmedTag: tags[trimmed - 1] ?? 0,
      closed: false,
      head: BigInt(tags.length),
      headTag: tags.at(-1) ?? 0,
    },
    rows: rows.filter((row) => row.offset >= offset),
  };
};

/** A history, and another one that shares only its beginning: tags never repeat, as good as true of 32 random bits. */
const histories = fc
  .record({ shared: fc.nat(12), before: fc.nat(12), now: fc.nat(12), trimmed: fc.nat(24), at: fc.nat(30) })
  .map(({ shared, before, now, trimmed, at }) => {
    const common = Array.from({ length: shared }, (_, index) => 1000 + index);
    const old = [...common, ...Array.from({ length: before }, (_, index) => 2000 + index)];
    const tags = [...common, ...Array.from({ length: now }, (_, index) => 3000 + index)];
    return { shared, old, tags, trimmed: Math.min(trimmed, tags.length), at: Math.min(at, old.length) };
  });

test('I8: a reader goes on only if all it has seen is the past of what comes, and then gets exactly what follows', () => {
  fc.assert(
    fc.property(histories, ({ shared, old, tags, trimmed, at }) => {
      const standing = { incarnation, offset: BigInt(at), tag: old[at - 1] ?? 0 };
      const { state, rows } = page(tags, trimmed, standing.offset);
      const located = locate(state, standing, rows);
      const isPast = at <= shared;
      if (located.kind === 'ok') {
        expect(isPast).toBe(true);
        expect(located.events.map(({ tag }) => tag)).toEqual(tags.slice(at));
      } else if (located.kind === 'gap') {
        expect(at).toBeLessThan(trimmed); // whichever history it was: what it lacks is gone
      } else {
        expect(isPast).toBe(false);
      }
    }),
    { numRuns: 500 },
  );
});

test('I8: with nothing trimmed and one history, every reader goes on', () => {
  fc.assert(
    fc.property(fc.nat(20), fc.nat(20), (length, at) => {
      const tags = Array.from({ length }, (_, index) => index + 1);
      const offset = BigInt(Math.min(at, length));
      const { state, rows } = page(tags, 0, offset);
      const tag = tags[Number(offset) - 1] ?? 0;
      expect(locate(state, { incarnation, offset, tag }, rows).kind).toBe('ok');
    }),
  );
});

describe('one by one', () => {
  const tags = [11, 12, 13, 14, 15];
  const at = (
    offset: bigint,
    tag: number | undefined,
    trimmed = 0,
    of: bigint | undefined = incarnation,
  ): unknown => {
    const { state, rows } = page(tags, trimmed, offset);
    const located = locate(state, { incarnation: of, offset, tag }, rows);
    return located.kind === 'ok' ? located.events.map((event) => event.offset) : located;
  };

  test('I8: another incarnation', () =>
    expect(at(2n, 12, 0, 9n)).toEqual({ kind: 'reset', reason: 'recreated' }));
  test('I8: beyond the head', () => expect(at(6n, 16)).toEqual({ kind: 'reset', reason: 'future' }));
  test('I8: another tag', () => expect(at(2n, 99)).toEqual({ kind: 'reset', reason: 'history' }));
  test('I8: trimmed', () => expect(at(1n, 11, 3)).toEqual({ kind: 'gap' }));
  test('I8: just at what was trimmed, the tag kept with the stream still tells', () => {
    expect(at(3n, 13, 3)).toEqual([4n, 5n]);
    expect(at(3n, 99, 3)).toEqual({ kind: 'reset', reason: 'history' });
    expect(at(5n, 15, 5)).toEqual([]);
  });
  test('a bare offset is checked for its place alone', () => {
    expect(at(2n, undefined, 0, undefined)).toEqual([3n, 4n, 5n]);
    expect(at(6n, undefined, 0, undefined)).toEqual({ kind: 'reset', reason: 'future' });
    expect(at(2n, undefined, 3, undefined)).toEqual({ kind: 'gap' });
  });
  test('at the head there is nothing, and no loss', () => expect(at(5n, 15)).toEqual([]));
  test('before the first event any tag will do', () => expect(at(0n, 77)).toEqual([1n, 2n, 3n, 4n, 5n]));

  test('interleaving 22: a page with a hole or without the standing row is another history', () => {
    const { state } = page(tags, 0, 2n);
    const rows = (offsets: readonly bigint[]): EventRecord[] =>
      offsets.map((offset) => recordAt(offset, 10 + Number(offset)));
    const history = { kind: 'reset', reason: 'history' };
    expect(locate(state, { incarnation, offset: 2n, tag: 12 }, rows([2n, 4n]))).toEqual(history);
    expect(locate(state, { incarnation, offset: 2n, tag: 12 }, rows([3n, 4n]))).toEqual(history);
    expect(locate(state, { incarnation, offset: 2n, tag: 12 }, [])).toEqual(history);
  });

  test('the ends of a stream', () => {
    const { state } = page(tags, 2, 0n);
    expect(oldestStanding(state)).toEqual({ incarnation, offset: 2n, tag: 12 });
    expect(headStanding(state)).toEqual({ incarnation, offset: 5n, tag: 15 });
  });
});
