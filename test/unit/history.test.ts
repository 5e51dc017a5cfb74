// Guards the judge of the chaos tests: each rule is shown a history that breaks it and nothing else, sound histories of
// every shape pass, and no small damage to a sound history goes unnoticed. A checker that has gone blind fails here.
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  checkHistory,
  summarize,
  type History,
  type Outcome,
  type Reading,
  type Seen,
  type Transaction,
} from '../support/history.ts';

/** A transaction of writer `w`, from `begunAt` on: `'w:1 w:2@s'` are its values, `@` names another stream than `a`. */
const tx = (values: string, begunAt: number, outcome: Outcome = 'ok', took = 1): Transaction => ({
  writer: values.split(':')[0]!,
  outcome,
  begunAt,
  ...(outcome === 'ok' ? { acknowledgedAt: begunAt + took } : {}),
  events: values.split(' ').map((text) => {
    const [value = '', stream = 'a'] = text.split('@');
    return { value, stream };
  }),
});

const seen = (value: string, offset: number): Seen => ({
  offset: BigInt(offset),
  value,
  cursor: `c${offset}-${value}`,
});
const log = (values: string): Seen[] =>
  values === '' ? [] : values.split(' ').map((value, index) => seen(value, index + 1));
const reading = (events: readonly Seen[], after = 0n): Reading => ({
  reader: 'r',
  stream: 'a',
  after,
  events,
});

const history = (parts: Partial<Omit<History, 'logs'>> & { logs: Record<string, Seen[]> }): History => ({
  transactions: [],
  readings: [],
  ...parts,
  logs: new Map(Object.entries(parts.logs)),
});
const rulesBroken = (given: History): string[] =>
  checkHistory(given).map(({ rule, loss }) => (loss === undefined ? rule : `${rule} ${loss}`));

const three = [tx('x:1', 0), tx('x:2', 2), tx('x:3', 4)];
const sound = history({
  transactions: three,
  logs: { a: log('x:1 x:2 x:3') },
  readings: [reading(log('x:1 x:2 x:3')), reading(log('x:1 x:2 x:3').slice(1), 1n)],
});

test('a sound history passes', () => {
  expect(checkHistory(sound)).toEqual([]);
  expect(summarize([])).toBe('');
});

describe('I1', () => {
  test('dense: a hole, and a log that does not begin at 1', () => {
    const transactions = [tx('x:1 x:2', 0)];
    const holed = [seen('x:1', 1), seen('x:2', 3)];
    expect(rulesBroken(history({ transactions, logs: { a: holed } }))).toEqual(['I1 dense']);
    const late = [seen('x:1', 0), seen('x:2', 1)];
    expect(rulesBroken(history({ transactions, logs: { a: late } }))).toEqual(['I1 dense', 'I1 dense']);
  });

  test('once: the same event at two offsets', () => {
    const given = history({ transactions: [tx('x:1', 0)], logs: { a: log('x:1 x:1') } });
    expect(rulesBroken(given)).toEqual(['I1 once']);
  });

  test('real time: acknowledged before another began, and stands behind it', () => {
    const logs = { a: log('y:1 x:1') };
    expect(rulesBroken(history({ transactions: [tx('x:1', 0), tx('y:1', 2)], logs }))).toEqual([
      'I1 real time',
    ]);
    expect(rulesBroken(history({ transactions: [tx('x:1', 0), tx('y:1', 0.5)], logs }))).toEqual([]);
  });

  test('real time holds against all that stand before, not only the neighbour', () => {
    const transactions = [tx('x:1', 0), tx('y:1', 2), tx('z:1', 0, 'ok', 9)];
    expect(rulesBroken(history({ transactions, logs: { a: log('y:1 z:1 x:1') } }))).toEqual(['I1 real time']);
  });

  test('real time binds what was acknowledged against what is unknown, and not the other way round', () => {
    const transactions = [tx('x:1', 0), tx('y:1', 2, 'unknown')];
    expect(rulesBroken(history({ transactions, logs: { a: log('y:1 x:1') } }))).toEqual(['I1 real time']);
    const reversed = [tx('x:1', 0, 'unknown'), tx('y:1', 2)];
    expect(rulesBroken(history({ transactions: reversed, logs: { a: log('y:1 x:1') } }))).toEqual([]);
  });

  test('writer order: across transactions of a writer, and within one', () => {
    const apart = [tx('x:1', 0), tx('x:2', 2)];
    expect(rulesBroken(history({ transactions: apart, logs: { a: log('x:2 x:1') } }))).toEqual([
      'I1 writer order',
    ]);
    const one = [tx('x:1 x:2 x:3', 0)];
    expect(rulesBroken(history({ transactions: one, logs: { a: log('x:1 x:3 x:2') } }))).toEqual([
      'I1 writer order',
    ]);
  });

  test('together: a stranger inside a transaction', () => {
    const transactions = [tx('x:1 x:2@b x:3', 0), tx('y:1', 0)];
    const logs = { a: log('x:1 y:1 x:3'), b: log('x:2') };
    expect(rulesBroken(history({ transactions, logs }))).toEqual(['I1 together']);
  });

  test('together: a head that was seen inside a transaction', () => {
    const transactions = [tx('x:1 x:2', 0), tx('x:3', 2)];
    const at = (head: bigint): History =>
      history({ transactions, logs: { a: log('x:1 x:2 x:3') }, heads: [{ stream: 'a', head }] });
    expect(rulesBroken(at(1n))).toEqual(['I1 together']);
    expect([0n, 2n, 3n].flatMap((head) => rulesBroken(at(head)))).toEqual([]);
  });

  test('told: another offset than the append returned', () => {
    const events = [{ value: 'x:1', stream: 'a', offset: 2n }];
    const given = history({ transactions: [{ ...tx('x:1', 0), events }], logs: { a: log('x:1') } });
    expect(rulesBroken(given)).toEqual(['I1 told']);
  });
});

describe('I2', () => {
  const read = (events: readonly Seen[], after = 0n): string[] =>
    rulesBroken({ ...sound, readings: [reading(events, after)] });
  const all = log('x:1 x:2 x:3');

  test.each([
    ['prefix', [all[1]!, all[2]!]],
    ['middle', [all[0]!, all[2]!]],
    ['postfix', [all[0]!, all[1]!]],
  ])('lost: the %s', (loss, events) => {
    expect(read(events)).toEqual([`I2 lost ${loss}`]);
  });

  test('lost: all of it', () => {
    expect(read([])).toEqual(['I2 lost whole', 'I2 lost whole', 'I2 lost whole']);
    expect(read([], 3n)).toEqual([]);
  });

  test('doubled', () => {
    expect(read([all[0]!, all[1]!, all[1]!, all[2]!])).toEqual(['I2 doubled']);
  });

  test('out of order', () => {
    expect(read([all[1]!, all[0]!, all[2]!])).toEqual(['I2 order']);
  });

  test('another value, another cursor, or an offset the log has not', () => {
    expect(read([all[0]!, { ...all[1]!, value: 'x:9' }, all[2]!])).toEqual(['I2 other']);
    expect(read([all[0]!, { ...all[1]!, cursor: 'stale' }, all[2]!])).toEqual(['I2 other']);
    expect(read([...all, seen('x:4', 4)])).toEqual(['I2 other']);
  });

  test('an event from before the start', () => {
    expect(read(all, 1n)).toEqual(['I2 other', 'I2 order']);
  });
});

describe('I3', () => {
  const logs = { a: log('x:1'), b: log('') };

  test.each([
    ['x:1', 'prefix'],
    ['x:2', 'middle'],
    ['x:3', 'postfix'],
  ])('lost: %s is the %s', (lost, loss) => {
    const left = ['x:1', 'x:2', 'x:3'].filter((value) => value !== lost).join(' ');
    expect(rulesBroken(history({ transactions: three, logs: { a: log(left) } }))).toEqual([
      `I3 lost ${loss}`,
    ]);
  });

  test('lost: all of a stream', () => {
    expect(rulesBroken(history({ transactions: [tx('x:1', 0)], logs: {} }))).toEqual(['I3 lost whole']);
  });

  test('undone: rolled back and there', () => {
    expect(rulesBroken(history({ transactions: [tx('x:1', 0, 'rolled-back')], logs }))).toEqual([
      'I3 undone',
    ]);
    expect(rulesBroken(history({ transactions: [tx('x:1 x:2', 0, 'rolled-back')], logs }))).toEqual([
      'I3 undone',
    ]);
  });

  test('torn: a part of an unknown one, across streams too', () => {
    const unknown = (values: string): History => history({ transactions: [tx(values, 0, 'unknown')], logs });
    expect(rulesBroken(unknown('x:1 x:2@b'))).toEqual(['I3 torn']);
    expect(rulesBroken(unknown('x:1'))).toEqual([]);
    expect(rulesBroken(history({ transactions: [tx('x:1 x:2', 0, 'unknown')], logs: { a: [] } }))).toEqual(
      [],
    );
  });

  test('torn: a part of a committed one, which also counts as lost', () => {
    expect(rulesBroken(history({ transactions: [tx('x:1 x:2', 0)], logs }))).toEqual([
      'I3 torn',
      'I3 lost middle',
    ]);
  });

  test('made up: written by nobody, or to another stream', () => {
    expect(rulesBroken(history({ logs }))).toEqual(['I3 made up']);
    const elsewhere = history({ transactions: [tx('x:1@b', 0)], logs });
    expect(rulesBroken(elsewhere)).toEqual(['I3 made up']);
  });
});

test('the summary counts per rule and gives examples', () => {
  const given = history({ transactions: three, logs: { a: log('x:2 x:1 x:1 x:4') } });
  expect(summarize(checkHistory(given), 1).split('\n')).toEqual([
    'I1 once: 1, such as a@3: x:1 stands there again',
    'I3 made up: 1, such as a@4: x:4 was not written to this stream',
    'I1 writer order: 2, such as a@2: x:1 was committed 1.000 ms before x:2 began, which stands before it',
    'I3 lost (postfix): 1, such as x:3, committed to a, is in no log',
  ]);
});

// Transactions with any overlap; each takes effect at one instant between its beginning and its acknowledgement, and the
// logs are what that makes of them.
const streams = ['a', 'b'];
const planned = fc.array(
  fc.record({
    writer: fc.nat(3),
    gap: fc.nat(5),
    lasts: fc.integer({ min: 2, max: 9 }),
    effect: fc.double({ min: 0.01, max: 0.99, noNaN: true }),
    outcome: fc.constantFrom<Outcome>('ok', 'ok', 'ok', 'rolled-back', 'unknown'),
    applied: fc.boolean(),
    streams: fc.array(fc.constantFrom(...streams), { minLength: 1, maxLength: 4 }),
  }),
  { minLength: 3, maxLength: 14 },
);

const soundHistory = planned.map((plans): History => {
  const clocks = [0, 0, 0, 0];
  const counts = [0, 0, 0, 0];
  const placed = plans.map((plan) => {
    const { writer, gap, lasts, effect, outcome } = plan;
    const begunAt = clocks[writer]! + gap;
    clocks[writer] = begunAt + lasts + 0.5;
    const events = plan.streams.map((stream) => ({ stream, value: `w${writer}:${(counts[writer]! += 1)}` }));
    const acknowledged = outcome === 'ok' ? { acknowledgedAt: begunAt + lasts } : {};
    const transaction: Transaction = { writer: `w${writer}`, outcome, begunAt, events, ...acknowledged };
    const applied = outcome === 'ok' || (outcome === 'unknown' && plan.applied);
    return { transaction, applied, at: begunAt + lasts * effect };
  });
  const effective = placed.filter(({ applied }) => applied).sort((one, other) => one.at - other.at);
  const logs = new Map(
    streams.map((stream) => {
      const events = effective.flatMap(({ transaction }) => transaction.events);
      const here = events.filter((written) => written.stream === stream);
      return [stream, here.map(({ value }, index) => seen(value, index + 1))];
    }),
  );
  const readings = streams.flatMap((stream) =>
    [0, 1].map((after): Reading => {
      const events = (logs.get(stream) ?? []).slice(after);
      return { reader: `after ${after}`, stream, after: BigInt(after), events };
    }),
  );
  return { transactions: placed.map(({ transaction }) => transaction), logs, readings };
});

test('whatever really happened passes', () => {
  fc.assert(
    fc.property(soundHistory, (given) => {
      expect(checkHistory(given)).toEqual([]);
    }),
  );
});

const renumbered = (events: readonly Seen[]): Seen[] =>
  events.map(({ value }, index) => seen(value, index + 1));

/** Each does one small damage to a log or to what a reader got; undefined where it finds nothing to damage. */
const damages: Record<string, (events: readonly Seen[], at: number) => Seen[] | undefined> = {
  dropped: (events, at) => events.toSpliced(at, 1),
  doubled: (events, at) => events.toSpliced(at, 0, events[at]!),
  swapped: (events, at) =>
    at + 1 < events.length ? events.toSpliced(at, 2, events[at + 1]!, events[at]!) : undefined,
  replaced: (events, at) => events.toSpliced(at, 1, { ...events[at]!, value: 'w9:9' }),
};

test('no small damage to what a reader got goes unnoticed', () => {
  const place = fc.record({
    reading: fc.nat(),
    at: fc.nat(),
    damage: fc.constantFrom(...Object.keys(damages)),
  });
  fc.assert(
    fc.property(soundHistory, place, (given, { reading, at, damage }) => {
      const victim = given.readings[reading % given.readings.length]!;
      fc.pre(victim.events.length > 0);
      const events = damages[damage]!(victim.events, at % victim.events.length);
      fc.pre(events !== undefined);
      const readings = given.readings.map((each) => (each === victim ? { ...each, events } : each));
      expect(checkHistory({ ...given, readings })).not.toEqual([]);
    }),
  );
});

test('no small damage to a log of committed events goes unnoticed, swaps of concurrent ones excepted', () => {
  const place = fc.record({
    stream: fc.constantFrom(...streams),
    at: fc.nat(),
    damage: fc.constantFrom('dropped', 'doubled', 'replaced'),
  });
  fc.assert(
    fc.property(soundHistory, place, (given, { stream, at, damage }) => {
      const victim = given.logs.get(stream) ?? [];
      const entry = victim[at % Math.max(1, victim.length)];
      const owner = given.transactions.find(({ events }) =>
        events.some(({ value }) => value === entry?.value),
      );
      fc.pre(entry !== undefined && owner?.outcome === 'ok');
      const damaged = renumbered(damages[damage]!(victim, victim.indexOf(entry))!);
      const logs = new Map([...given.logs, [stream, damaged]]);
      expect(checkHistory({ ...given, logs, readings: [] })).not.toEqual([]);
    }),
  );
});
