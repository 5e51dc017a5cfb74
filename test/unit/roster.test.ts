// Guards presence frames: whoever folds the state and what follows knows exactly the members, however the readings were
// cut; and what has not changed is not told.
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { Roster } from '../../src/presence/roster.ts';
import { presentIn } from '../support/present.ts';
import { FrameReader } from '../support/sse.ts';

const id = fc.constantFrom('ann', 'bob', 'cé "d"', 'line\u2028', 'x'.repeat(255));
const state = fc.oneof(fc.constant(null), fc.integer(), fc.string(), fc.record({ at: fc.string() }));
const members = fc.uniqueArray(fc.tuple(id, state), { selector: ([name]) => name });
const reading = fc.oneof(
  fc.record({ all: members }),
  fc.record({ asked: fc.uniqueArray(id), found: members }),
);

test('folding the frames gives the members, after each reading', () => {
  fc.assert(
    fc.property(members, fc.array(reading, { maxLength: 20 }), (first, readings) => {
      const roster = new Roster('a room');
      const client = new FrameReader();
      const texts = (some: readonly (readonly [string, unknown])[]): Map<string, string> =>
        new Map(some.map(([name, value]) => [name, JSON.stringify(value)]));
      expect(roster.update(new Set(['ann']), texts(first))).toEqual([]); // not before all are known
      expect(roster.replace(texts(first))).toEqual([]);
      client.feed(roster.state);
      let known = texts(first);
      for (const each of readings) {
        const before = new Map(known);
        let changes;
        if ('all' in each) {
          known = texts(each.all);
          changes = roster.replace(known);
        } else {
          const found = texts(each.found.filter(([name]) => each.asked.includes(name)));
          for (const name of each.asked) known.delete(name);
          for (const [name, text] of found) known.set(name, text);
          changes = roster.update(new Set(each.asked), found);
        }
        for (const change of changes) expect(before.get(change.id)).not.toBe(known.get(change.id));
        client.feed(roster.frames(changes));
        const expected = Object.fromEntries([...known].map(([name, text]) => [name, JSON.parse(text)]));
        expect(presentIn(client.frames, 'a room')).toEqual(expected);
        const late = new FrameReader();
        late.feed(roster.state);
        expect(presentIn(late.frames, 'a room')).toEqual(expected);
      }
      expect(client.error).toBeUndefined();
    }),
  );
});
