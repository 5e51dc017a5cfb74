// Guards what is kept of intervals: their counts add up to what was counted, nothing twice and nothing lost, whoever comes
// and goes in between; and an interval is bounded, however many names there are (I7).
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { StatsLedger, type Interval } from '../../src/http/stats-ledger.ts';
import { Stats } from '../../src/http/stats.ts';
import { Batch, Entry } from '../../src/tail/entry.ts';
import type { EndReason } from 'sluice/http';
import { recordAt } from '../support/records.ts';

const NAMES = ['a', 'b', 'c', '__proto__'];
const batchOf = (stream: string, count: number): Batch =>
  new Batch(
    Array.from(
      { length: count },
      (_, index) => new Entry({ name: stream, incarnation: 1n }, recordAt(index + 1)),
    ),
    { live: true },
  );

const counting = (maxStreams: number): Stats => new Stats(new StatsLedger(maxStreams));
const take = (stats: Stats): Interval => {
  const interval = stats.take();
  if (!interval) throw new Error('there is no ledger');
  return interval;
};
const total = (counts: Readonly<Record<string, number>> | Float64Array): number =>
  Object.values(counts).reduce((sum, count) => sum + count, 0);

const step = fc.oneof(
  fc.record({ kind: fc.constant('open' as const), streams: fc.uniqueArray(fc.constantFrom(...NAMES)) }),
  fc.record({
    kind: fc.constant('end' as const),
    which: fc.nat(),
    reason: fc.constantFrom<EndReason>('client', 'slow'),
  }),
  fc.record({
    kind: fc.constant('deliver' as const),
    which: fc.nat(),
    events: fc.integer({ min: 1, max: 3 }),
  }),
  fc.record({ kind: fc.constant('refuse' as const), status: fc.constantFrom(403, 404) }),
  fc.record({ kind: fc.constant('take' as const) }),
);

test('the intervals of a stream, and of the handler, add up to all that was counted', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const stats = counting(100);
      const open: { readonly streams: string[]; readonly end: (reason: EndReason) => void }[] = [];
      const expected = new Map(NAMES.map((name) => [name, { opened: 0, events: 0, evicted: 0 }]));
      const taken: Interval[] = [];
      for (const each of steps) {
        if (each.kind === 'open') {
          open.push({
            streams: each.streams,
            end: stats.opened(each.streams.map((stream) => ({ stream, behind: 5 }))),
          });
          for (const name of each.streams) expected.get(name)!.opened += 1;
        } else if (each.kind === 'end' && open.length > 0) {
          const [gone] = open.splice(each.which % open.length, 1);
          gone!.end(each.reason);
          if (each.reason === 'slow') for (const name of gone!.streams) expected.get(name)!.evicted += 1;
        } else if (each.kind === 'deliver' && open.length > 0) {
          const [stream] = open[each.which % open.length]!.streams;
          if (stream === undefined) continue;
          stats.delivered(stream, batchOf(stream, each.events), 7);
          expected.get(stream)!.events += each.events;
        } else if (each.kind === 'refuse') stats.refused(each.status);
        else if (each.kind === 'take') taken.push(take(stats));
      }
      taken.push(take(stats));
      for (const [name, counts] of expected) {
        const rows = taken.flatMap(({ streams }) => streams.filter(({ stream }) => stream === name));
        const sum = (count: (row: (typeof rows)[number]) => number): number =>
          rows.reduce((all, row) => all + count(row), 0);
        expect({
          opened: sum((row) => row.opened),
          events: sum((row) => row.events),
          evicted: sum((row) => row.evicted),
        }).toEqual(counts);
        expect(sum((row) => row.liveDeliveries)).toBe(counts.events);
        expect(sum((row) => row.replayEvents.sum)).toBe(5 * counts.opened);
        expect(sum((row) => total(row.replayEvents.counts))).toBe(counts.opened);
        expect(rows.at(-1)?.connections ?? 0).toBe(
          open.filter(({ streams }) => streams.includes(name)).length,
        );
      }
      const all = stats.totals();
      const sum = (count: (row: Interval['all']) => number): number =>
        taken.reduce((sofar, row) => sofar + count(row.all), 0);
      expect(sum(({ opened }) => opened)).toBe(all.opened);
      expect(sum(({ events }) => events)).toBe(all.events);
      expect(sum(({ bytes }) => bytes)).toBe(all.bytes);
      expect(sum(({ latencyMs }) => total(latencyMs.counts))).toBe(all.latencyMs.count);
      expect(sum(({ ended }) => total(ended))).toBe(total(all.ended));
      expect(sum(({ refused }) => total(refused))).toBe(total(all.refused));
      expect(taken.at(-1)!.all.connections).toBe(open.length);
    }),
  );
});

describe('I7: an interval tells of the busiest streams', () => {
  test('of those that are read, and says how many it leaves out', () => {
    const stats = counting(2);
    for (const [index, stream] of NAMES.entries()) {
      stats.opened([{ stream, behind: 0 }]);
      stats.delivered(stream, batchOf(stream, index + 1), 1);
    }
    const { all, streams, leftOut } = take(stats);
    expect(streams.map(({ stream, events }) => [stream, events])).toEqual([
      ['__proto__', 4],
      ['c', 3],
    ]);
    expect([all.events, leftOut]).toEqual([10, 2]);
    expect(take(stats)).toMatchObject({ streams: [{ events: 0 }, { events: 0 }], leftOut: 2 });
  });

  test('of names that came and went, and holds no more than twice as many', () => {
    const ledger = new StatsLedger(3);
    const stats = new Stats(ledger);
    for (let index = 0; index < 1000; index += 1) {
      const end = stats.opened([{ stream: `user ${index}`, behind: 0 }]);
      stats.delivered(`user ${index}`, batchOf('s', index === 10 ? 3 : 1), 1);
      end('client');
      expect(ledger.held).toBeLessThanOrEqual(6);
    }
    const { all, streams, leftOut } = take(stats);
    expect(streams[0]).toMatchObject({ stream: 'user 10', events: 3, connections: 0 });
    expect([streams.length, leftOut, all.events]).toEqual([3, 997, 1002]);
    expect(take(stats)).toMatchObject({ streams: [], leftOut: 0 });
  });

  test('of none, if it was asked to', () => {
    const stats = counting(0);
    stats.opened([{ stream: 'a', behind: 0 }])('client');
    expect(take(stats)).toMatchObject({ all: { opened: 1, ended: { client: 1 } }, streams: [], leftOut: 1 });
  });
});
