// Guards the event endpoint against whatever may be sent to it: cursors that nobody gave out, or were given out for
// something else; headers and queries of any bytes. Each is answered with a problem document or with a sound event stream,
// never with a 5xx, never not at all; and what is accepted starts exactly where it says, or tells of the loss (I8).
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import * as fc from 'fast-check';
import { connect, type Sluice } from 'sluice';
import { createTokens } from 'sluice/http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { decodeCursor, encodeCursor, NOT_YET, type CursorPosition } from '../../src/protocol/cursor.ts';
import { parsePosition, type ParsedPosition } from '../../src/protocol/position.ts';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';
import { askRaw, type RawAnswer } from '../support/raw-answer.ts';
import { serve, type Serving } from '../support/serve.ts';
import type { FrameReader } from '../support/sse.ts';
import { newSecret } from '../support/tokens.ts';

const db = useDatabase();
let sluice: Sluice;
let open: Serving;
let guarded: Serving;
const tokens = createTokens({ secret: newSecret(), cookie: true });
let token: string;
const failures: unknown[] = [];
const onFailure = (message: unknown): void => void failures.push(message);

/** A stream as it is, by what was said of it when it was made. */
interface Known {
  readonly incarnation: bigint;
  readonly head: bigint;
  readonly trimmedTo: bigint;
  readonly tags: ReadonlyMap<bigint, number>;
}
const known = new Map<string, Known>();
/** Every position that was ever given out, those of a stream that is gone among them. */
const given: CursorPosition[] = [];
const names = ['trimmed', 'whole', 'empty', 'again'];

const write = async (name: string, count: number, trimmedTo = 0): Promise<void> => {
  await sluice.createStream(name);
  const tags = new Map([[0n, 0]]);
  const stream = sluice.stream(name);
  for (let n = 1; n <= count; n += 1) {
    const { offset, cursor } = await stream.append({ name, n });
    tags.set(offset, decodeCursor(cursor)![0]!.tag);
  }
  if (trimmedTo > 0) await stream.trim({ before: BigInt(trimmedTo) + 1n });
  const [{ incarnation }] = decodeCursor((await stream.read()).cursor) as [CursorPosition];
  known.set(name, { incarnation, head: BigInt(count), trimmedTo: BigInt(trimmedTo), tags });
  for (const [offset, tag] of tags) given.push({ incarnation, offset, tag });
};

beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString, fallbackPollMs: 200 });
  await write('again', 3);
  await write('trimmed', 6, 2);
  await write('whole', 3);
  await write('empty', 0);
  await write('elsewhere', 2); // never asked for
  await sluice.deleteStream('again');
  await write('again', 5);
  open = await serve(sluice);
  token = await tokens.issue({ streams: names, expiresInMs: 600_000 });
  guarded = await serve(sluice, {
    authorize: tokens.authorize,
    cors: { origins: ['https://shop.example'], credentials: true },
  });
  subscribe('sluice:background.failed', onFailure);
});
afterAll(async () => {
  unsubscribe('sluice:background.failed', onFailure);
  await open[Symbol.asyncDispose]();
  await guarded[Symbol.asyncDispose]();
  await sluice.close();
});

/** Bytes are characters up to U+00FF. */
const get = (
  at: Serving,
  target: string,
  headers: readonly string[],
  isEnough: (reader: FrameReader) => boolean,
): Promise<RawAnswer> => {
  const head = ['GET ' + target + ' HTTP/1.1', 'host: x', 'connection: close', ...headers, '', ''];
  return askRaw(at.port, Buffer.from(head.join('\r\n'), 'latin1'), isEnough);
};

/** Told by node:http, which never hands on what is no HTTP. */
const isOfNode = ({ status, headers }: RawAnswer): boolean =>
  !headers.has('content-type') && (status === 400 || status === 431);

/** Asserts that an answer is one of those there are. */
const sound = (answer: RawAnswer): void => {
  const { status, headers, body, reader } = answer;
  if (isOfNode(answer)) return;
  expect(status).toBeLessThan(500);
  if (status === 200) {
    expect(headers.get('content-type')).toMatch(/^text\/event-stream/);
    const [retry, opened, ...rest] = reader.frames;
    expect([retry?.retry, opened?.event]).toEqual([expect.stringMatching(/^\d+$/), 'sluice:open']);
    expect(rest.some(({ id }) => id !== undefined && decodeCursor(id))).toBe(true);
    return;
  }
  expect(headers.get('content-type')).toBe('application/problem+json');
  expect(headers.get('cache-control')).toBe('no-store');
  const problem = { type: 'about:blank', title: expect.any(String), detail: expect.any(String), status };
  expect(JSON.parse(body)).toMatchObject(problem);
};
const hasBegun = ({ frames }: FrameReader): boolean => frames.some(({ id }) => id !== undefined);
/** After all that was sent: nothing failed in silence, nothing stays open, and who asks properly is served. */
const unharmed = async (at: Serving, headers: readonly string[] = []): Promise<void> => {
  expect(failures).toEqual([]);
  await until(() => at.handler.stats().connections === 0);
  const answer = await get(
    at,
    '/v1/events?stream=whole&after=start',
    headers,
    ({ messages }) => messages.length === 4, // sluice:open and three events
  );
  expect(answer.status).toBe(200);
};
/** `SLUICE_FUZZ=20` looks that many times longer. */
const scale = Number(process.env['SLUICE_FUZZ'] ?? 1);
const check = <T>(arbitrary: fc.Arbitrary<T>, holds: (value: T) => Promise<void>, runs: number) =>
  fc.assert(fc.asyncProperty(arbitrary, holds), { numRuns: runs * scale, timeout: 10_000 });
const deadline = { timeout: 120_000 * scale };

describe('cursors', () => {
  const id = fc.oneof(
    fc.constantFrom('whole', 'trimmed', 'empty', 'again', 'elsewhere'),
    fc.bigInt(1n, 12n),
    fc.bigInt(1n, 2n ** 63n - 1n),
  );
  const forged = fc
    .record({
      id,
      offset: fc.oneof(fc.bigInt(0n, 8n), fc.bigInt(0n, 2n ** 63n - 1n), fc.constant(2n ** 63n - 1n)),
      tag: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
      isTrue: fc.boolean(),
    })
    .map(({ id: whose, offset, tag, isTrue }): CursorPosition => {
      const stream = typeof whose === 'string' ? known.get(whose)! : undefined;
      const real = isTrue ? stream?.tags.get(offset) : undefined;
      return { incarnation: stream?.incarnation ?? (whose as bigint), offset, tag: real ?? tag };
    });
  // Positions are made when they are asked for: what was given out is known only then.
  const real = fc.nat().map((n) => given[n % given.length]!);
  const position = fc.oneof({ weight: 3, arbitrary: real }, forged, fc.constant(NOT_YET));
  const cursor = fc.array(position, { minLength: 1, maxLength: 21 }).map(encodeCursor);
  const short = fc.array(position, { minLength: 1, maxLength: 3 }).map(encodeCursor);
  const character = fc.constantFrom(...Array.from('0123456789abz.-_ A\u00e9'));
  const mutated = fc
    .tuple(short, fc.nat(), character, fc.constantFrom(0, 1, 2))
    .map(([text, at, inserted, removed]) => {
      const index = at % (text.length + 1);
      return text.slice(0, index) + inserted + text.slice(index + removed);
    });
  const truncated = fc
    .tuple(cursor, fc.nat())
    .map(([text, at]) => text.slice(at % text.length, at % 2 ? undefined : -1));
  const plain = fc.oneof(
    fc.constantFrom('start', 'end', '0', '1', '3', '6', '7', '9223372036854775807', '9223372036854775808'),
    fc.bigInt(0n, 2n ** 63n).map(String),
  );
  const text = fc.oneof(
    { weight: 4, arbitrary: short },
    cursor,
    mutated,
    truncated,
    plain,
    fc.constant(undefined),
  );

  interface Expected {
    readonly loss?: 'gap' | 'recreated' | 'future' | 'history';
    /** What comes is all that follows this offset. */
    readonly after: bigint;
  }
  const ok = (after: bigint): Expected => ({ after });

  /** Where a reader goes on that stands at an offset, of the history that the tag says. */
  const standing = (stream: Known, offset: bigint, tag?: number): Expected => {
    const { head, trimmedTo, tags } = stream;
    if (offset > head) return { loss: 'future', after: trimmedTo };
    if (offset < trimmedTo) return { loss: 'gap', after: trimmedTo };
    const isOther = offset > 0n && tag !== undefined && tags.get(offset) !== tag;
    return isOther ? { loss: 'history', after: trimmedTo } : ok(offset);
  };
  const plainly = (stream: Known, at: ParsedPosition): Expected => {
    if (at.kind === 'start') return ok(stream.trimmedTo);
    return at.kind === 'offset' ? standing(stream, at.offset) : ok(stream.head);
  };
  const startOf = (
    name: string,
    streams: readonly string[],
    first: ParsedPosition,
    after?: ParsedPosition,
  ): Expected => {
    const stream = known.get(name)!;
    if (first.kind !== 'cursor') return plainly(stream, first);
    const others = after?.kind === 'cursor' ? after.positions : [];
    const asked = [
      ...first.positions,
      ...others.filter((other) => first.positions.every((each) => each.incarnation !== other.incarnation)),
    ];
    const positions = asked.filter((each) => each !== NOT_YET);
    const mine = positions.find(({ incarnation }) => incarnation === stream.incarnation);
    if (mine) return standing(stream, mine.offset, mine.tag);
    const exists = ({ incarnation }: CursorPosition): boolean =>
      [...known.values()].some((each) => each.incarnation === incarnation);
    const before = positions.find((each) => !exists(each) && each.incarnation < stream.incarnation);
    // The one position of a reader of one stream can only have meant that stream.
    if (before || (streams.length === 1 && positions.length === 1))
      return { loss: 'recreated', after: stream.trimmedTo };
    if (positions.length < asked.length) return plainly(stream, { kind: 'start' });
    return plainly(stream, after && after.kind !== 'cursor' ? after : { kind: 'end' });
  };

  const lossesOf = ({ frames }: FrameReader, name: string): string[] =>
    frames
      .filter(({ event }) => event === 'sluice:gap' || event === 'sluice:reset')
      .map(({ event, data }) => ({ event, told: JSON.parse(data!) as Record<string, string> }))
      .filter(({ told }) => told['stream'] === name)
      .map(({ event, told }) => {
        const stream = known.get(name)!;
        expect([told['oldest'], told['head']]).toEqual([String(stream.trimmedTo + 1n), String(stream.head)]);
        return event === 'sluice:gap' ? 'gap' : told['reason']!;
      });
  const eventsOf = ({ messages }: FrameReader, name: string): unknown[] =>
    messages
      .filter(({ event }) => event === undefined)
      .map(({ data }) => JSON.parse(data) as { stream: string; offset: string; data: unknown })
      .filter(({ stream }) => stream === name)
      .map(({ offset, data }) => [offset, data]);

  test(
    'I8: what is accepted starts where it says or tells of the loss; what is no cursor is refused',
    deadline,
    async () => {
      const request = fc.record({
        streams: fc.shuffledSubarray(names, { minLength: 1 }),
        lastEventId: text,
        after: text,
      });
      let accepted = 0;
      await check(
        request,
        async ({ streams, lastEventId, after }) => {
          const query = new URLSearchParams(streams.map((name): [string, string] => ['stream', name]));
          if (after !== undefined) query.set('after', after);
          const heads = streams.map((name) => {
            const { incarnation, head, tags } = known.get(name)!;
            return { incarnation, offset: head, tag: tags.get(head)! };
          });
          const headers = lastEventId === undefined ? [] : [`last-event-id: ${lastEventId}`];
          const isEnough = ({ lastEventId: id }: FrameReader): boolean => id === encodeCursor(heads);
          const answer = await get(open, `/v1/events?${String(query)}`, headers, isEnough);
          sound(answer);
          const shown = lastEventId?.trim(); // of a header, by HTTP
          const first = parsePosition(shown ? shown : (after ?? 'end'));
          if (first === undefined) {
            expect([answer.status, JSON.parse(answer.body)]).toMatchObject([400, { code: 'cursor_invalid' }]);
            return;
          }
          expect(answer.status).toBe(200);
          accepted += 1;
          for (const name of streams) {
            const expected = startOf(name, streams, first, shown ? parsePosition(after) : undefined);
            expect(lossesOf(answer.reader, name)).toEqual(expected.loss === undefined ? [] : [expected.loss]);
            const { head } = known.get(name)!;
            const count = Number(head - expected.after);
            expect(eventsOf(answer.reader, name)).toEqual(
              Array.from({ length: count }, (_, index) => {
                const n = Number(expected.after) + 1 + index;
                return [String(n), { name, n }];
              }),
            );
          }
        },
        400,
      );
      expect(accepted).toBeGreaterThan(100);
      await unharmed(open);
    },
  );
});

const byte = fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code));
const bytes = (maxLength: number): fc.Arbitrary<string> => fc.string({ unit: byte, maxLength });
/** What HTTP lets a header hold. */
const headerText = (maxLength: number): fc.Arbitrary<string> =>
  fc.string({
    unit: fc
      .integer({ min: 0x20, max: 0xff })
      .filter((code) => code !== 0x7f)
      .map((code) => String.fromCharCode(code)),
    maxLength,
  });
// Most of it gets past node:http; the rest must not fell it either.
const anyText = fc.oneof(
  { weight: 20, arbitrary: headerText(60) },
  { weight: 2, arbitrary: bytes(60) },
  fc.constant('x'.repeat(20_000)),
);
const oftener = <T>(some: fc.Arbitrary<T>, others: fc.Arbitrary<T>): fc.Arbitrary<T> =>
  fc.oneof({ weight: 3, arbitrary: some }, others);

describe('headers', () => {
  const bearer = oftener(
    fc.constant('good'),
    fc.oneof(
      anyText,
      anyText.map((text) => `Bearer ${text}`),
    ),
  );
  const request = fc.record(
    {
      authorization: bearer,
      'last-event-id': oftener(fc.constantFrom('start', '1', '9', ''), anyText),
      origin: oftener(fc.constantFrom('https://shop.example', 'null', 'https://evil.example'), anyText),
      accept: anyText,
      cookie: anyText,
      'sec-fetch-site': oftener(fc.constantFrom('same-origin', 'same-site', 'cross-site', 'none'), anyText),
      'cache-control': anyText,
      'x-forwarded-for': anyText,
      'accept-encoding': anyText,
    },
    { requiredKeys: [] },
  );

  test(
    'of any bytes: a problem document or an event stream, and only who shows the token is let in',
    deadline,
    async () => {
      const statuses = new Map<string, number>();
      await check(
        request,
        async (headers) => {
          const lines = Object.entries(headers).map(
            ([name, value]) => `${name}: ${value === 'good' ? `Bearer ${token}` : value}`,
          );
          const answer = await get(guarded, '/v1/events?stream=whole&after=start', lines, hasBegun);
          sound(answer);
          const status = isOfNode(answer) ? 'no HTTP' : String(answer.status);
          statuses.set(status, (statuses.get(status) ?? 0) + 1);
          if (status === '200') expect(headers.authorization).toBe('good');
          expect(['200', '400', '401', '403', 'no HTTP']).toContain(status);
        },
        500,
      );
      expect([...statuses.keys()]).toEqual(expect.arrayContaining(['200', '400', '401', '403', 'no HTTP']));
      await unharmed(guarded, [`authorization: Bearer ${token}`]);
    },
  );
});

describe('queries', () => {
  const garbage = fc.constantFrom(
    '%',
    '%%',
    '%0',
    '%zz',
    '%00',
    '%0a',
    '%c3',
    '%c3%28',
    '%ed%a0%80',
    '%ff%fe',
    '%F0%9F%A7%BE',
    '%2e%2e%2f',
    '%26stream%3dwhole',
    '+',
    '&',
    '=',
    ';',
    '?',
    '#',
    '&&',
    '==',
    '[]',
    '\\',
    '..',
    '__proto__',
    'constructor',
    'x'.repeat(600),
    'x'.repeat(12_000),
    'stream=whole&'.repeat(900),
  );
  const printable = fc.string({
    unit: fc.integer({ min: 0x21, max: 0xff }).map((code) => String.fromCharCode(code)),
    maxLength: 20,
  });
  const value = fc
    .array(fc.oneof(garbage, printable, fc.constantFrom('whole', 'start', 'end', '1')), { maxLength: 3 })
    .map((parts) => parts.join(''));
  const key = fc.oneof(
    { weight: 3, arbitrary: fc.constantFrom('stream', 'after', 'format', 'presence', 'ticket') },
    fc.constantFrom('', 'Stream', 'stream[]', 'stream%00', '%73tream', 'last-event-id', '__proto__'),
    garbage,
  );
  const pair = fc.tuple(key, value, fc.constantFrom('=', '', '==')).map((parts) => parts.join(''));
  const good = fc.constantFrom(
    'stream=whole',
    'stream=trimmed',
    'after=start',
    'format=envelope',
    'after=end',
  );
  const query = fc
    .array(fc.oneof({ weight: 2, arbitrary: good }, pair), { maxLength: 25 })
    .chain((pairs) => fc.constantFrom('&', '&', '&', ';', '&&').map((mark) => pairs.join(mark)));

  test('of any shape: a problem document, or exactly the streams that it names', deadline, async () => {
    const statuses = new Map<number, number>();
    await check(
      query,
      async (text) => {
        const answer = await get(open, `/v1/events?${text}`, [], hasBegun);
        sound(answer);
        statuses.set(answer.status, (statuses.get(answer.status) ?? 0) + 1);
        expect([200, 400, 403, 404, 431]).toContain(answer.status);
        if (answer.status !== 200) return;
        const { data } = answer.reader.frames.find(({ event }) => event === 'sluice:open')!;
        const opened = JSON.parse(data!) as { streams: { name: string }[] };
        const named = new URL(`http://x/?${text}`).searchParams.getAll('stream');
        expect(opened.streams.map(({ name }) => name)).toEqual([...new Set(named)]);
      },
      600,
    );
    expect([...statuses.keys()]).toEqual(expect.arrayContaining([200, 400, 404]));
    await unharmed(open);
  });
});
