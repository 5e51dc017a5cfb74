// Guards who may read with whom: a reader joins another's connection only where it misses nothing (I2), what is had is
// known by comparing positions as text, and a request never says what a server would misread.
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readAnswer } from '../../src/client/answer.ts';
import { dispatch } from '../../src/client/dispatch.ts';
import { createFeed } from '../../src/client/feed.ts';
import { isFurther, isLive, joinAt } from '../../src/client/joining.ts';
import { present, takePresence } from '../../src/client/presence.ts';
import { chooseRequest, type Reading } from '../../src/client/request.ts';
import { covers, startText } from '../../src/client/standing.ts';
import { encodeCursor, encodePosition, type CursorPosition } from '../../src/protocol/cursor.ts';
import { keep } from '../../src/react/use-stream.ts';

const position: fc.Arbitrary<CursorPosition> = fc.record({
  incarnation: fc.bigInt({ min: 1n, max: 3n }),
  offset: fc.oneof(fc.bigInt({ min: 0n, max: 40n }), fc.bigInt({ min: 0n, max: 2n ** 63n - 1n })),
  tag: fc.integer(),
});
const at = (offset: bigint, incarnation = 1n): string => encodePosition({ incarnation, offset, tag: 7 });
const reading = (more: Partial<Reading>): Reading => ({ stream: 'a', after: 'end', ...more });

describe('standing', () => {
  test('positions compared as text are compared as what they stand for', () => {
    fc.assert(
      fc.property(position, position, (a, b) => {
        const expected = a.incarnation === b.incarnation && a.offset >= b.offset;
        expect(covers(encodePosition(a), encodePosition(b))).toBe(expected);
        const readings = [a, b].map((each) => reading({ position: encodePosition(each) })) as [
          Reading,
          Reading,
        ];
        expect(isFurther(...readings)).toBe(expected);
      }),
      { numRuns: 1000 },
    );
    expect(covers(undefined, at(0n))).toBe(false);
  });

  test('starts are what servers take, and nothing that could forge a header', () => {
    const cursors = fc.array(position, { minLength: 1, maxLength: 20 }).map(encodeCursor);
    fc.assert(
      fc.property(cursors, (cursor) => {
        expect(startText(cursor)).toBe(cursor);
      }),
    );
    expect(['start', 'end', 5n, '17'].map((each) => startText(each))).toEqual(['start', 'end', '5', '17']);
    for (const wrong of ['', 'yesterday', '-1', 'a-b-c\r\nx: y', '1.5', 'ä-b-c', 2n ** 80n])
      expect(() => startText(wrong), String(wrong)).toThrow(
        expect.objectContaining({ code: 'cursor_invalid' }),
      );
  });
});

describe('joining', () => {
  const standing = reading({ position: at(10n), head: 8n });

  test.each([
    ['the end, of a reading that is live', 'end', at(10n)],
    ['where it stands', at(10n), at(10n)],
    ['further than it', at(12n), at(12n)],
    ['further, in a cursor of several', `${at(3n, 2n)}.${at(12n)}`, at(12n)],
    ['its offset', '10', at(10n)],
    ['behind it', at(9n), undefined],
    ['another history', at(12n, 2n), undefined],
    ['an offset behind', '9', undefined],
    ['an offset ahead, whose tag nobody knows', '12', undefined],
    ['the start', 'start', undefined],
  ])('%s', (_, after, expected) => {
    expect(joinAt(after, standing)).toBe(expected);
  });

  test('the end of a reading that is catching up is not where it stands', () => {
    expect(joinAt('end', reading({ position: at(10n), head: 11n }))).toBeUndefined();
    expect(joinAt('end', reading({ position: at(10n) }))).toBeUndefined();
    expect(joinAt('end', reading({ head: 0n }))).toBeUndefined();
    expect(joinAt('start', reading({ position: at(0n), head: 0n }))).toBe(at(0n));
    expect([isLive(standing), isLive(reading({ position: at(7n), head: 8n }))]).toEqual([true, false]);
  });
});

describe('a request', () => {
  const readings: fc.Arbitrary<Reading[]> = fc
    .array(
      fc.oneof(
        position.map((each) => ({ after: 'end', position: encodePosition(each) })),
        fc
          .constantFrom('start', 'end', '3', '4', at(1n), `${at(1n)}.${at(2n, 2n)}`)
          .map((after) => ({ after })),
      ),
      { minLength: 1, maxLength: 20 },
    )
    .map((all) => all.map((each, index) => ({ ...each, stream: `s${index}` })));

  test('says all that resume, starts of one kind, and comes to an end', () => {
    fc.assert(
      fc.property(readings, (all) => {
        let left = all;
        for (let requests = 0; left.some(({ position }) => position === undefined); requests += 1) {
          expect(requests).toBeLessThan(6);
          const asked = chooseRequest(left);
          const starting = asked.readings.filter(({ position }) => position === undefined);
          expect(starting.length).toBeGreaterThan(0);
          expect(asked.readings.length - starting.length).toBe(
            left.filter(({ position }) => position).length,
          );
          const starts = new Set(starting.map(({ after }) => after).filter((after) => !after.includes('-')));
          expect(starts.size).toBeLessThanOrEqual(1);
          if (asked.after !== undefined && asked.after !== 'end') expect([...starts]).toEqual([asked.after]);
          left = left.map((each) => (starting.includes(each) ? { ...each, position: at(0n) } : each));
        }
      }),
    );
  });

  test('a cursor that speaks of streams it does not know meets no stream that starts elsewhere', () => {
    const all = [
      reading({ after: '0-0-0' }),
      reading({ stream: 'b' }),
      reading({ stream: 'c', after: at(1n) }),
    ];
    expect(chooseRequest(all)).toEqual({ readings: all.slice(0, 1), after: undefined, lastEventId: '0-0-0' });
    expect(chooseRequest(all.slice(1))).toEqual({
      readings: all.slice(1),
      after: 'end',
      lastEventId: at(1n),
    });
  });

  test('one that starts at the end beside one that resumes', () => {
    const all = [
      reading({ position: at(4n) }),
      reading({ stream: 'b' }),
      reading({ stream: 'c', after: 'start' }),
    ];
    expect(chooseRequest(all)).toEqual({ readings: all.slice(0, 2), after: 'end', lastEventId: at(4n) });
  });
});

describe('answers', () => {
  const read = (status: number, headers: Record<string, string> = {}, body = '{}'): Promise<unknown> =>
    readAnswer(new Response(body, { status, headers }), Date.parse('2030-01-01T00:00:00Z'));
  const json = { 'content-type': 'application/problem+json' };

  test.each([
    [401, 'refused'],
    [403, 'refused'],
    [404, 'refused'],
    [400, 'rejected'],
    [405, 'rejected'],
    [431, 'rejected'],
    [408, 'lost'],
    [429, 'lost'],
    [500, 'lost'],
    [503, 'lost'],
    [200, 'lost'],
  ])('%i is %s', async (status, kind) => {
    expect(await read(status)).toMatchObject({ kind, problem: { status } });
  });

  test('Retry-After in seconds and as a date, problems and what is none', async () => {
    expect(await read(503, { 'retry-after': '7' })).toMatchObject({ waitMs: 7000 });
    expect(await read(429, { 'retry-after': 'Tue, 01 Jan 2030 00:00:09 GMT' })).toMatchObject({
      waitMs: 9000,
    });
    expect(await read(503, { 'retry-after': 'soon' })).toMatchObject({ waitMs: 0 });
    const told = { title: 'Bad', detail: 'use a cursor', code: 'cursor_invalid' };
    expect(await read(400, json, JSON.stringify(told))).toMatchObject({ problem: { status: 400, ...told } });
    expect(await read(400, json, '{')).toMatchObject({
      problem: { status: 400, detail: expect.stringContaining('400') },
    });
    expect(await read(400, json, '{"title":1,"code":{}}')).toEqual({
      kind: 'rejected',
      problem: { status: 400, title: '', detail: expect.any(String) },
    });
  });
});

test('presence is what the notices come to', () => {
  const [ann, bob] = [
    { id: 'ann', state: 1 },
    { id: 'bob', state: 2 },
  ];
  const there = present(undefined, { kind: 'state', members: [ann] });
  const both = present(there, { kind: 'join', member: bob });
  const changed = present(both, { kind: 'update', member: { id: 'ann', state: 3 } });
  const left = present(changed, { kind: 'leave', member: bob });
  expect([...changed.values()]).toEqual([{ id: 'ann', state: 3 }, bob]);
  expect([...left.keys()]).toEqual(['ann']);
  expect([...present(changed, { kind: 'state', members: [bob] }).keys()]).toEqual(['bob']);
  expect(both.get('ann')).toBe(ann);
});

test('notices of presence are taken in as they come: none waits while a later one overtakes it', () => {
  const feed = createFeed('room', 'end');
  const feeds = new Map([['room', feed]]);
  for (const told of [
    { kind: 'state', members: [] },
    { kind: 'join', member: { id: 'ann', state: 1 } },
  ]) {
    const data = JSON.stringify({ stream: 'room', ...told });
    dispatch({ event: 'sluice:presence', data }, [feed], feeds, { takePresence });
  }
  expect([...(feed.members?.keys() ?? [])]).toEqual(['ann']);
});

test('a view keeps the latest events, drops those of another history, and tells of losses', () => {
  const event = (stream: string, offset: bigint) =>
    ({
      kind: 'event',
      stream,
      offset,
      cursor: '',
      type: null,
      key: null,
      data: null,
      at: new Date(0),
    }) as const;
  const loss = { stream: 'a', reason: '', requested: 0n, oldest: 0n, head: 0n, cursor: '' };
  let kept: Parameters<typeof keep<null>>[0] = { events: [], loss: null };
  for (const offset of [1n, 2n, 3n]) kept = keep(kept, event('a', offset), 3);
  kept = keep(kept, event('b', 1n), 3);
  expect(kept.events.map(({ stream, offset }) => `${stream}${offset}`)).toEqual(['a2', 'a3', 'b1']);
  expect(keep(kept, { kind: 'gap', ...loss }, 3).events).toBe(kept.events);
  const reset = keep(kept, { kind: 'reset', ...loss }, 3);
  expect([reset.events.map(({ stream }) => stream), reset.loss?.kind]).toEqual([['b'], 'reset']);
  expect(keep(kept, { kind: 'broadcast', stream: 'a', type: null, data: null }, 3)).toBe(kept);
});
