// Guards the judge of what groups did: each rule is shown a history that breaks it and nothing else, and a sound one
// passes. A checker that has gone blind fails here.
import { expect, test } from 'vitest';
import {
  assertHandled,
  checkGroups,
  type Effect,
  type GroupHistory,
  type GroupRecord,
} from '../support/group-history.ts';

/** `'1a 2b 3'` is a log of three events, with the keys a, b and none. */
const log = (text: string): GroupHistory['log'] =>
  text.split(' ').map((entry) => {
    const [, offset = '', key] = /^(\d+)(\w*)$/.exec(entry) ?? [];
    return { offset: BigInt(offset), key: key === '' ? null : (key ?? null) };
  });

/** The same, each with the last effect on its key that had been written before. */
const effects = (text: string): Effect[] => {
  const last = new Map<string, bigint>();
  return (text === '' ? [] : log(text)).map(({ offset, key }, seq) => {
    const saw = (key !== null && last.get(key)) || null;
    if (key !== null) last.set(key, offset);
    return { offset, key, seq, saw };
  });
};

const judged = (group: Partial<GroupRecord>, shared: GroupHistory['shared'] = []): string[] => {
  const sound: GroupRecord = {
    name: 'g',
    promise: 'exactly once',
    ordered: true,
    effects: effects('1a 2b 3a 4'),
    dead: [],
  };
  const history = { log: log('1a 2b 3a 4'), groups: [{ ...sound, ...group }], shared };
  return checkGroups(history).map(({ rule }) => rule);
};

test('what is sound passes: in order per key, the keys in any', () => {
  expect(judged({})).toEqual([]);
  expect(judged({ effects: effects('4 2b 1a 3a') })).toEqual([]);
  expect(judged({ promise: 'at least once', ordered: false, effects: effects('3a 1a 2b 1a 4') })).toEqual([]);
});

test.each<[string, Partial<GroupRecord>]>([
  ['I5 lost', { effects: effects('1a 2b 3a') }],
  ['I5 lost', { effects: effects('2b 3a 4'), ordered: false }],
  ['I5 doubled', { effects: effects('1a 2b 3a 4 4') }],
  ['I5 made up', { effects: effects('1a 2b 3a 4 5a'), ordered: false }],
  [
    'I5 made up',
    { effects: [...effects('1a 2b 3a'), { offset: 4n, key: 'b', seq: 9, saw: 2n }], ordered: false },
  ],
  ['I5 given up', { dead: [2n] }],
  ['I5 given up', { dead: [4n], effects: effects('1a 2b 3a') }],
  [
    'I6 order',
    {
      effects: effects('3a 2b 4 1a').map((e) =>
        e.key === 'a' ? { ...e, saw: e.offset === 3n ? 1n : null } : e,
      ),
    },
  ],
  // Written in order, and the later one did not see the earlier one committed: both were in hand at once.
  ['I6 order', { effects: effects('1a 2b 3a 4').map((e) => ({ ...e, saw: null })) }],
])('%s', (rule, group) => {
  expect(judged(group)).toEqual([rule]);
});

test('I5 shared', () => {
  expect(judged({}, [{ group: 'g', offsets: '{[1,2)}' }])).toEqual(['I5 shared']);
});

test('the verdict names the rules, how often, and where', () => {
  const group: GroupRecord = { name: 'g', promise: 'exactly once', ordered: true, effects: [], dead: [] };
  expect(() => assertHandled({ log: log('1a 2b'), groups: [group], shared: [] })).toThrow(
    /I5 lost: 2, such as g@1; g@2/,
  );
});
