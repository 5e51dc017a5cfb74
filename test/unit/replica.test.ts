// Guards which part of a standby's page may reach a reader (I2, I8): what follows the very event it stands on, as far as
// the primary is known to have come; and none of the conclusions that a standby could suggest.
import { describe, expect, test } from 'vitest';
import type { EventRecord } from '../../src/log/event.ts';
import type { Page } from '../../src/log/read.ts';
import { usable } from '../../src/tail/replica.ts';
import { recordAt } from '../support/records.ts';

const event = (offset: number): EventRecord => recordAt(offset, offset * 10);

/** A standby that has come to `head`, asked from `from` on. */
const page = (from: number, head: number, trimmedTo = 0): Page => ({
  state: {
    incarnation: 1n,
    trimmedTo: BigInt(trimmedTo),
    trimmedTag: trimmedTo * 10,
    closed: false,
    head: BigInt(head),
    headTag: head * 10,
  },
  rows: Array.from({ length: Math.max(0, head - from + 1) }, (_, index) => event(from + index)).filter(
    ({ offset }) => offset > BigInt(trimmedTo),
  ),
});
const at = (offset: number, tag = offset * 10): { incarnation: bigint; offset: bigint; tag: number } => ({
  incarnation: 1n,
  offset: BigInt(offset),
  tag,
});
const offsets = (found: Page | undefined): number[] | undefined =>
  found?.rows.map(({ offset }) => Number(offset));

describe('a page of a standby', () => {
  test('interleaving 29: is used as far as the primary is known to have come: it may show a commit before the primary does', () => {
    expect(offsets(usable(page(3, 9), at(3), 9n))).toEqual([3, 4, 5, 6, 7, 8, 9]);
    expect(offsets(usable(page(3, 9), at(3), 5n))).toEqual([3, 4, 5]);
    expect(offsets(usable(page(0, 9), at(0), 2n))).toEqual([1, 2]);
    expect(usable(page(3, 9), at(3), 3n)).toBeUndefined();
  });

  test.each([
    ['has nothing after it yet', page(3, 3), at(3)],
    ['has not come so far', page(5, 3), at(5)],
    ['has trimmed it', page(3, 9, 5), at(3)],
    ['has another event there', page(3, 9), at(3, 7)],
    ['has another incarnation', page(3, 9), { ...at(3), incarnation: 2n }],
    ['has a hole', { ...page(3, 9), rows: [event(3), event(5)] }, at(3)],
  ])('is not used when it %s', (_, given, standing) => {
    expect(usable(given, standing, 9n)).toBeUndefined();
  });
});
