// Guards the demo's evidence: what its page calls a gap, a duplicate or a missing order. If this is wrong, the page
// either hides a defect of I1 or I2 or accuses a stream that has none. Oracles below are sets and plain arithmetic.
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  committed,
  deliver,
  openLedger,
  report,
  verdict,
  type Ledger,
  type Report,
  type Status,
} from '../../src/cli/demo/page/ledger.ts';
import { count, startTally, type Tally } from '../../src/cli/demo/page/tally.ts';

const countAll = (after: bigint, offsets: readonly bigint[]): Tally => {
  let tally = startTally(after);
  for (const offset of offsets) tally = count(tally, offset);
  return tally;
};

const starts = fc.bigInt({ min: 0n, max: 1n << 70n });

describe('tally', () => {
  test('I1: offsets in order from the first one on are beyond reproach, wherever they start', () => {
    fc.assert(
      fc.property(starts, fc.nat({ max: 500 }), (after, length) => {
        const offsets = Array.from({ length }, (_, index) => after + 1n + BigInt(index));
        expect(countAll(after, offsets)).toEqual({
          after,
          last: after + BigInt(length),
          delivered: length,
          gaps: 0,
          duplicates: 0,
          reordered: 0,
          holes: [],
        });
      }),
    );
  });

  test('I2: any sequence is judged as a set would judge it', () => {
    const steps = fc.array(fc.integer({ min: -3, max: 60 }), { maxLength: 120, size: 'max' });
    fc.assert(
      fc.property(starts, steps, (after, steps) => {
        const seen = new Set<number>();
        let highest = 0;
        let late = 0;
        for (const step of steps) {
          if (step < 1 || seen.has(step)) continue;
          if (step < highest) late++;
          seen.add(step);
          highest = Math.max(highest, step);
        }
        expect(
          countAll(
            after,
            steps.map((step) => after + BigInt(step)),
          ),
        ).toMatchObject({
          last: after + BigInt(highest),
          delivered: seen.size,
          gaps: highest - seen.size,
          duplicates: steps.length - seen.size,
          reordered: late,
        });
      }),
    );
  });

  test('I7: it remembers a bounded number of holes and still counts all of them', () => {
    const everySecond = Array.from({ length: 1_000 }, (_, index) => BigInt(index + 1) * 2n);
    const tally = countAll(0n, everySecond);
    expect(tally.gaps).toBe(1_000);
    expect(tally.holes.length).toBeLessThanOrEqual(64);
    expect(count(tally, 1n)).toMatchObject({ gaps: 1_000, duplicates: 1 });
    expect(count(tally, 1_999n)).toMatchObject({ gaps: 999, duplicates: 0, reordered: 1 });
  });
});

describe('ledger', () => {
  type Step = 'commit' | 'deliver' | 'deliver another' | 'ask' | 'count' | 'answer';
  const step = fc.constantFrom<Step>(
    'commit',
    'commit',
    'deliver',
    'deliver',
    'deliver another',
    'ask',
    'count',
    'answer',
  );

  test('I2: reports however late never make it accuse, and once the shop is quiet the numbers meet', () => {
    const past = fc.record({ orders: fc.nat({ max: 1_000 }), shown: fc.nat({ max: 8 }) });
    fc.assert(
      fc.property(
        past,
        fc.array(step, { maxLength: 200, size: 'max' }),
        ({ orders: before, shown }, steps) => {
          // What was there before the page: orders, of which it is shown the last few, and the stream that held them.
          const hidden = Math.max(0, before - shown);
          const after = BigInt(hidden);
          let ledger = openLedger(after, BigInt(before));
          let orders = before;
          let others = 0;
          let question: { asked: Ledger; answer: Report | null } | null = null;
          const now = (): Report => ({ orders, head: ledger.tally.last });
          const next = (isOrder: boolean): void => {
            ledger = deliver(ledger, ledger.tally.last + 1n, isOrder);
          };
          const run: Record<Step, () => void> = {
            commit: () => orders++,
            deliver: () => ledger.ordersDelivered < orders - hidden && next(true),
            'deliver another': () => {
              others++;
              next(false);
            },
            ask: () => (question = { asked: ledger, answer: null }),
            // The server counts at any moment between the question and the answer.
            count: () => question && (question = { ...question, answer: now() }),
            answer: () => {
              if (question) ledger = report(ledger, question.answer ?? now(), question.asked);
              question = null;
            },
          };
          for (const each of steps) {
            run[each]();
            const known = committed(ledger) ?? ledger.tally.delivered;
            expect(known).toBeGreaterThanOrEqual(ledger.tally.delivered);
            expect(known).toBeLessThanOrEqual(orders - hidden + others);
          }
          while (ledger.ordersDelivered < orders - hidden) next(true);
          ledger = report(ledger, now(), ledger);
          expect(committed(ledger)).toBe(ledger.tally.delivered);
          const oneMore = { ...now(), orders: orders + 1 };
          expect(committed(report(ledger, oneMore, ledger))).toBe(ledger.tally.delivered + 1);
        },
      ),
    );
  });

  test('while it catches up it does not claim to know what is committed', () => {
    const opened = openLedger(90n, 98n);
    expect(committed(report(opened, { orders: 98, head: 98n }, opened))).toBeNull();
    let ledger = opened;
    for (let offset = 91n; offset <= 98n; offset++) ledger = deliver(ledger, offset, true);
    expect(committed(report(ledger, { orders: 98, head: 98n }, opened))).toBeNull();
    expect(committed(report(ledger, { orders: 98, head: 98n }, ledger))).toBe(8);
    expect(committed(report(ledger, { orders: 99, head: 99n }, ledger))).toBe(8);
  });

  test('an event delivered twice is one delivery', () => {
    const once = deliver(openLedger(0n, 0n), 1n, true);
    expect(deliver(once, 1n, true)).toMatchObject({ ordersDelivered: 1, tally: { duplicates: 1 } });
  });

  test('a report asked for before the count began anew is not used for it', () => {
    const old = deliver(openLedger(0n, 0n), 1n, true);
    const anew = openLedger(0n, 0n, old);
    expect(report(anew, { orders: 7, head: 0n }, old)).toBe(anew);
    expect(report(anew, { orders: 7, head: 0n }, anew).baseline).toBe(7);
  });
});

describe('verdict', () => {
  const quiet = 60_000;
  const ledgerOf = (...offsets: bigint[]): Ledger => {
    let ledger = openLedger(0n, 0n);
    ledger = report(ledger, { orders: 0, head: 0n }, ledger);
    for (const offset of offsets) ledger = deliver(ledger, offset, true);
    return ledger;
  };
  const behind = report(ledgerOf(1n), { orders: 4, head: 1n }, ledgerOf(1n));
  const unread = report(ledgerOf(1n), { orders: 1, head: 3n }, ledgerOf(1n));

  test.each<{ ledger: Ledger; status: Status; quietMs: number; tone: string; text: string }>([
    { ledger: ledgerOf(), status: 'live', quietMs: 0, tone: 'waiting', text: 'waiting for the first order' },
    { ledger: ledgerOf(1n, 2n), status: 'live', quietMs: quiet, tone: 'good', text: 'no gap, no duplicate' },
    { ledger: ledgerOf(1n), status: 'dropped', quietMs: quiet, tone: 'good', text: 'no gap, no duplicate' },
    { ledger: behind, status: 'live', quietMs: 0, tone: 'waiting', text: '3 still to come' },
    { ledger: behind, status: 'dropped', quietMs: quiet, tone: 'waiting', text: '3 still to come' },
    {
      ledger: behind,
      status: 'live',
      quietMs: quiet,
      tone: 'bad',
      text: '3 committed events have not arrived',
    },
    { ledger: unread, status: 'live', quietMs: 0, tone: 'waiting', text: '2 still to come' },
    {
      ledger: unread,
      status: 'live',
      quietMs: quiet,
      tone: 'bad',
      text: '2 committed events have not arrived',
    },
    { ledger: ledgerOf(1n, 3n), status: 'live', quietMs: 0, tone: 'bad', text: '1 offset missing' },
    { ledger: ledgerOf(1n, 1n), status: 'live', quietMs: 0, tone: 'bad', text: '1 duplicate' },
    { ledger: ledgerOf(1n, 3n, 2n), status: 'live', quietMs: 0, tone: 'bad', text: '1 out of order' },
    {
      ledger: ledgerOf(1n, 5n, 2n, 2n),
      status: 'live',
      quietMs: 0,
      tone: 'bad',
      text: '2 offsets missing, 1 duplicate, 1 out of order',
    },
  ])('$status for $quietMs ms: $text', ({ ledger, status, quietMs, text, tone }) => {
    expect(verdict(ledger, status, quietMs)).toEqual({ text, tone });
  });
});
