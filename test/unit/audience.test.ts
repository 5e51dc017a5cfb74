// Guards I10: who sees an event is decided in one way, whichever way its batch came; what is in doubt is hidden, and
// said, without its payload; and a batch that is for everybody costs nobody a thing.
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  audiencesFrom,
  judgeEvent,
  judgeLabel,
  type Audience,
  type Viewer,
} from '../../src/http/audience.ts';
import { Broadcasts } from '../../src/ephemerals/broadcasts.ts';
import { createFilters } from '../../src/http/filters.ts';
import type { StreamEvent } from '../../src/log/event.ts';
import { Batch, Entry, type Frames } from '../../src/tail/entry.ts';
import { silentLogger, type LoggerLike } from '../../src/util/logger.ts';
import { encodedOf, recordAt } from '../support/records.ts';

interface Target {
  readonly visibleTo?: string | null;
  readonly exclude?: string | null;
}

const entry = (offset: number, { visibleTo = null, exclude = null }: Target = {}): Entry => {
  const event = { ...encodedOf(`{"secret":${offset}}`), visibleTo, exclude };
  return new Entry({ name: 's', incarnation: 1n }, recordAt(offset, offset, event));
};
const batchOf = (...targets: Target[]): Batch =>
  new Batch(targets.map((target, index) => entry(index + 1, target)));

const me = '00000000-0000-4000-8000-000000000001';
const other = '00000000-0000-4000-8000-000000000002';
const isAdmin: Audience = (context) => (context as { admin: boolean }).admin;
/** Sees with the eyes of one viewer. */
type See = (batch: Batch) => Frames | undefined;
const filters = (audiences: Record<string, Audience>, logger: LoggerLike = silentLogger) => {
  const { events, broadcasts } = createFilters(audiencesFrom(audiences), logger);
  return {
    forViewer:
      (viewer: Viewer): See =>
      (batch) =>
        events(batch, viewer, me),
    broadcasts: (messages: Broadcasts, viewer: Viewer): Buffer | undefined =>
      broadcasts(messages, viewer, me),
  };
};
const seen = (see: See, batch: Batch): number[] =>
  see(batch)?.entries.map(({ offset }) => Number(offset)) ?? [];

describe('an audience', () => {
  const audiences = audiencesFrom({ admins: isAdmin });

  test('is decided by its predicate on the context', () => {
    expect(judgeLabel(audiences, 'admins', { admin: true })).toEqual({ visible: true });
    expect(judgeLabel(audiences, 'admins', { admin: false })).toEqual({ visible: false });
  });

  test.each([['nobody knows this'], ['constructor'], ['__proto__'], ['toString'], ['Admins'], ['']])(
    'I10: %j is not known and hides',
    (label) => {
      const verdict = judgeLabel(audiences, label, { admin: true });
      expect(verdict).toEqual({ visible: false, fault: expect.any(Error) });
    },
  );

  test.each([
    ['raises', () => (undefined as unknown as { admin: boolean }).admin],
    ['throws nothing', () => thrown(undefined)],
    ['answers undefined', () => undefined],
    ['answers null', () => null],
    ['answers 1', () => 1],
    ['answers a text', () => 'true'],
    ['answers an object', () => ({ visible: true })],
    ['answers a promise', () => Promise.resolve(true)],
    ['answers a promise that fails', () => Promise.reject(new Error('too late'))],
  ])('I10: one that %s hides, and says why', (_, predicate) => {
    const faulty = audiencesFrom({ faulty: predicate as Audience });
    expect(judgeLabel(faulty, 'faulty', {})).toEqual({ visible: false, fault: expect.any(Error) });
    const visible = predicate as () => boolean;
    expect(judgeEvent({ visible }, () => entry(1).event)).toEqual({
      visible: false,
      fault: expect.any(Error),
    });
  });

  test.each([
    ['an async function', { a: (async () => true) as unknown as Audience }],
    ['no function', { a: true as unknown as Audience }],
    ['an empty label', { '': () => true }],
    ['a label too long to be written', { ['é'.repeat(65)]: () => true }],
    ['no object', null as unknown as Record<string, Audience>],
  ])('%s is refused when the handler is made', (_, given) => {
    expect(() => audiencesFrom(given)).toThrow(TypeError);
  });

  test('added to the object later, it is not taken in', () => {
    const given: Record<string, Audience> = {};
    const taken = audiencesFrom(given);
    given['late'] = () => true;
    expect(judgeLabel(taken, 'late', {}).visible).toBe(false);
  });
});

const thrown = (value: unknown): never => {
  throw value;
};

describe('a batch', () => {
  test('that is for everybody passes as it is', () => {
    const filter = filters({}).forViewer({ context: {} });
    const batch = batchOf({}, {}, {});
    expect(filter(batch)).toBe(batch);
  });

  test('is one buffer for all who see the same of it', () => {
    const all = filters({ admins: isAdmin });
    const batch = batchOf({}, { visibleTo: 'admins' }, {});
    const viewers = [{ admin: false }, { admin: false }, { admin: true }].map((context) =>
      all.forViewer({ context })(batch)?.bytes('data'),
    );
    expect(viewers[0]).toBe(viewers[1]);
    expect(viewers[2]).toBe(batch.bytes('data'));
    expect(String(viewers[0])).not.toContain('"secret":2');
  });

  test('asks for each label once, and anew with the next batch', () => {
    let asked = 0;
    const context = { admin: true };
    const filter = filters({ admins: (given) => (asked += 1) > 0 && isAdmin(given) }).forViewer({ context });
    const batch = batchOf({ visibleTo: 'admins' }, {}, { visibleTo: 'admins' });
    expect(seen(filter, batch)).toEqual([1, 2, 3]);
    expect(asked).toBe(1);
    context.admin = false; // revoked on a live connection
    expect(seen(filter, batch)).toEqual([2]);
    expect(asked).toBe(2);
  });

  test('leaves out what excludes the connection, also for those whom the label means', () => {
    const filter = filters({ admins: isAdmin }).forViewer({ context: { admin: true } });
    const batch = batchOf(
      { exclude: me },
      { exclude: other },
      { visibleTo: 'admins', exclude: me },
      { visibleTo: 'admins', exclude: other },
      { visibleTo: 'others', exclude: other },
    );
    expect(seen(filter, batch)).toEqual([2, 4]);
  });

  test('the grant lets through what its label does too, and is asked about nothing else', () => {
    const asked: StreamEvent[] = [];
    const visible = (event: StreamEvent): boolean => asked.push(event) > 0 && event.offset !== 3n;
    const filter = filters({ admins: isAdmin }).forViewer({ context: { admin: true }, visible });
    expect(
      seen(filter, batchOf({ visibleTo: 'admins' }, { visibleTo: 'others' }, {}, { exclude: me }, {})),
    ).toEqual([1, 5]);
    expect(asked.map(({ offset, visibleTo, data }) => [offset, visibleTo, data])).toEqual([
      [1n, 'admins', { secret: 1 }],
      [3n, null, { secret: 3 }],
      [5n, null, { secret: 5 }],
    ]);
  });
});

describe('what is broadcast', () => {
  const messages = (...targets: Target[]): Broadcasts =>
    new Broadcasts(
      targets.map(({ visibleTo = null, exclude = null }, index) => ({
        stream: 's',
        type: null,
        visibleTo,
        exclude,
        data: `{"secret":${index + 1}}`,
      })),
    );
  const shown = (frames: Buffer | undefined): number[] =>
    [...String(frames).matchAll(/"secret":(\d+)/g)].map(([, n]) => Number(n));

  test('is one buffer for all who get the same of it', () => {
    const all = filters({ admins: isAdmin });
    const some = messages({}, { visibleTo: 'admins' }, {});
    const [one, two, admin] = [false, false, true].map((isOne) =>
      all.broadcasts(some, { context: { admin: isOne } }),
    );
    expect(one).toBe(two);
    expect(shown(one)).toEqual([1, 3]);
    expect(admin).toBe(some.bytes);
    expect(String(admin)).not.toContain('admins');
    const forAll = messages({}, {});
    expect(all.broadcasts(forAll, { context: {} })).toBe(forAll.bytes);
  });

  test('I10: follows the same rules, closed in doubt; only the predicate for events is not asked', () => {
    const all = filters({ admins: isAdmin, raising: () => thrown(new Error('who is it?')) });
    const visible = (): boolean => thrown(new Error('no event'));
    const given = messages(
      {},
      { visibleTo: 'admins' },
      { visibleTo: 'unknown' },
      { visibleTo: 'raising' },
      { visibleTo: 'constructor' },
      { exclude: me },
      { exclude: other },
      { visibleTo: 'admins', exclude: me },
    );
    expect(shown(all.broadcasts(given, { context: { admin: true }, visible }))).toEqual([1, 2, 7]);
    expect(shown(all.broadcasts(given, { context: { admin: false } }))).toEqual([1, 7]);
    expect(all.broadcasts(messages({ visibleTo: 'unknown' }), { context: {} })).toBeUndefined();
  });
});

test('I10: a fault is told each time to whoever listens and now and then to the logger, never with a payload', () => {
  const lines: unknown[] = [];
  const told: unknown[] = [];
  const logger = { ...silentLogger, error: (details: object) => void lines.push(details) };
  const listen = (message: unknown): void => void told.push(message);
  subscribe('sluice:background.failed', listen);
  const error = new Error('who is it?');
  const all = filters({ faulty: () => thrown(error) }, logger);
  const visible = (): boolean => thrown(error);
  for (let n = 0; n < 50; n += 1) {
    all.forViewer({ context: {} })(batchOf({ visibleTo: 'faulty' }, { visibleTo: 'unknown' }));
    all.forViewer({ context: {}, visible })(batchOf({}));
  }
  unsubscribe('sluice:background.failed', listen);
  expect(told).toHaveLength(150);
  expect(told[0]).toEqual({ where: 'audience', label: 'faulty', error });
  expect(lines).toEqual([
    { label: 'faulty', error },
    { label: 'unknown', error: expect.any(Error) },
    { label: null, error },
  ]);
});

test('I10: replayed in pages or live in bursts, a connection sees the same, and what the rules say', () => {
  const label = fc.constantFrom(null, 'admins', 'staff', 'unknown', 'raising');
  const target = fc.record({ visibleTo: label, exclude: fc.constantFrom(null, me, other) });
  const cuts = fc.array(fc.nat(40), { maxLength: 20 });
  const context = fc.record({ admin: fc.boolean(), staff: fc.boolean() });
  const own = fc.constantFrom(undefined, (event: StreamEvent) => event.offset % 3n !== 0n);
  const isStaff: Audience = (given) => (given as { staff: boolean }).staff;
  const all = filters({ admins: isAdmin, staff: isStaff, raising: () => thrown(new Error('raising')) });
  fc.assert(
    fc.property(
      fc.array(target, { minLength: 1, maxLength: 40 }),
      fc.tuple(cuts, cuts),
      fc.tuple(context, own),
      (targets, [pages, bursts], [given, visible]) => {
        const entries = targets.map((each, index) => entry(index + 1, each));
        const passing = (at: readonly number[]): number[] =>
          cutAt(entries, at).flatMap((batch) => seen(all.forViewer({ context: given, visible }), batch));
        const meant = targets.flatMap(({ visibleTo, exclude }, index) => {
          const belongs =
            visibleTo === null ||
            (visibleTo === 'admins' && given.admin) ||
            (visibleTo === 'staff' && given.staff);
          return belongs && exclude !== me && (!visible || (index + 1) % 3 !== 0) ? [index + 1] : [];
        });
        expect(passing(pages)).toEqual(meant);
        expect(passing(bursts)).toEqual(meant);
      },
    ),
  );
});

/** The entries as batches, a new one beginning at each of the indexes. */
const cutAt = (entries: readonly Entry[], at: readonly number[]): Batch[] => {
  const starts = [...new Set([0, ...at.filter((index) => index < entries.length)])].toSorted((a, b) => a - b);
  return starts.map((start, index) => new Batch(entries.slice(start, starts[index + 1])));
};
