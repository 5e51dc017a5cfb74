// Guards the bytes a browser reads, against an independent parser of the standard: whatever users store, the parser
// gets back what was put in, and nothing stored can forge a field, an event or an id (I9).
import { createParser, type EventSourceMessage } from 'eventsource-parser';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  encodeComment,
  encodeEvent,
  encodeIdOnly,
  encodeRetry,
  type EventFrame,
} from '../../src/protocol/frames.ts';

interface Parsed {
  readonly events: EventSourceMessage[];
  readonly comments: string[];
  readonly retries: number[];
  readonly errors: string[];
}

/** Parses the text as it might arrive: cut at the given places. */
const parse = (text: string, cuts: readonly number[] = []): Parsed => {
  const parsed: Parsed = { events: [], comments: [], retries: [], errors: [] };
  const parser = createParser({
    onEvent: (event) => parsed.events.push(event),
    onComment: (comment) => parsed.comments.push(comment),
    onRetry: (ms) => parsed.retries.push(ms),
    onError: (error) => parsed.errors.push(error.message),
  });
  const places = cuts.map((cut) => cut % (text.length + 1)).sort((a, b) => a - b);
  for (const [index, place] of [...places, text.length].entries()) {
    parser.feed(text.slice(places[index - 1] ?? 0, place));
  }
  return parsed;
};

// Whatever could end a line, begin a field or be stripped, often; anything else, sometimes.
const unit = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.constantFrom('\r', '\n', '\r\n', '\n\n', ' ', ':', '\0', '\u2028', '\u0085', '\ufeff'),
  },
  {
    weight: 2,
    arbitrary: fc.constantFrom('data: ', 'id: 9-9-9', 'event: sluice:reset', 'retry: 1', ': comment'),
  },
  { weight: 2, arbitrary: fc.string({ unit: 'binary', minLength: 1, maxLength: 3 }) },
);
const text = fc.string({ unit, maxLength: 30 });
/** What a name or an id may hold: those with a line end or NUL are refused by the encoder. */
const oneLine = text.map((value) => value.replace(/[\r\n\0]/g, ''));
const cuts = fc.array(fc.nat(), { maxLength: 5 });

const expected = ({ id, event, data }: EventFrame): EventSourceMessage => ({
  id,
  event: event === null || event === '' ? undefined : event,
  data: data.replace(/\r\n|\r/g, '\n'), // every line end is one to a parser: JSON means the same with either
});

describe('events', () => {
  const frame: fc.Arbitrary<EventFrame> = fc.record({
    id: fc.option(oneLine, { nil: undefined }),
    event: fc.option(oneLine, { nil: null }),
    data: text,
  });

  test('I9: a parser gets back what was encoded, however it is cut, and no forged field or event', () => {
    fc.assert(
      fc.property(fc.array(frame, { maxLength: 5 }), cuts, (frames, places) => {
        const { events, errors, comments, retries } = parse(
          frames.map((each) => encodeEvent(each)).join(''),
          places,
        );
        expect(events).toEqual(frames.map(expected));
        expect([errors, comments, retries]).toEqual([[], [], []]);
      }),
    );
  });

  test('JSON payloads come back as the same value', () => {
    fc.assert(
      fc.property(fc.json({ stringUnit: 'binary' }), fc.constantFrom(0, 1, '\t', '\r\n'), (json, space) => {
        const value: unknown = JSON.parse(json);
        const [event] = parse(encodeEvent({ data: JSON.stringify(value, null, space) })).events;
        expect(JSON.parse(event?.data ?? '')).toEqual(value);
      }),
    );
  });

  test('an id or a name that would break the frame is refused, for it can only be our own mistake', () => {
    for (const bad of ['1\n2', '1\r2', '1\r\n2', '1\0', '\n', '1\n\ndata: forged']) {
      expect(() => encodeEvent({ id: bad, data: '1' })).toThrow(RangeError);
      expect(() => encodeEvent({ event: bad, data: '1' })).toThrow(RangeError);
      expect(() => encodeIdOnly(bad)).toThrow(RangeError);
      expect(() => encodeComment(bad)).toThrow(RangeError);
    }
  });
});

describe('the rest', () => {
  test('I9: comments and retries reach nobody, and carry no id', () => {
    fc.assert(
      fc.property(oneLine, fc.nat(), (comment, ms) => {
        const parsed = parse(encodeComment(comment) + encodeRetry(ms) + encodeEvent({ data: '1' }));
        expect(parsed).toEqual({
          events: [{ id: undefined, event: undefined, data: '1' }],
          comments: [comment],
          retries: [ms],
          errors: [],
        });
      }),
    );
  });

  test('I9: an id-only frame dispatches nothing', () => {
    expect(encodeIdOnly('1-2-3')).toBe('id: 1-2-3\n\n');
    expect(parse(`${encodeIdOnly('1-2-3')}${encodeIdOnly('1-3-4')}`).events).toEqual([]);
  });

  test('a retry is a whole number of milliseconds, never negative', () => {
    expect(encodeRetry(1500.4)).toBe('retry: 1500\n\n');
    expect(encodeRetry(-1)).toBe('retry: 0\n\n');
  });
});
