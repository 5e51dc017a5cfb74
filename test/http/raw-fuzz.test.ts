// Guards the whole way in, from the socket on, against bytes that no client would send: request lines, headers that are
// odd, repeated, or far too long, broken percent-encodings, in pieces of any size, from clients that leave in the middle.
// Each is answered by a 4xx or by what was asked for, or the connection is closed; never a 5xx, nothing fails in silence,
// and no place for a connection is lost for it (I7).
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import * as fc from 'fast-check';
import { connect, type Sluice } from 'sluice';
import { createTokens } from 'sluice/http';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { decodeCursor } from '../../src/protocol/cursor.ts';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';
import { askRaw, exchange, type RawAnswer, type RawRequest } from '../support/raw-answer.ts';
import { serve, type Serving } from '../support/serve.ts';
import { openSse, type FrameReader } from '../support/sse.ts';
import { newSecret } from '../support/tokens.ts';
import { upTo } from '../support/up-to.ts';

/** Connections that the server takes: few, so that one that is not given back is missed. */
const PLACES = 20;
const ORIGIN = 'https://shop.example';
const COOKIE = 'session';

const db = useDatabase();
const tokens = createTokens({ secret: newSecret(), cookie: COOKIE });
const failures: unknown[] = [];
const onFailure = (message: unknown): void => void failures.push(message);
let sluice: Sluice;
let serving: Serving;
let token: string;
let cursor: string;

beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString });
  ({ cursor } = await sluice.stream('whole').appendMany([{ data: 1 }, { data: 2 }]));
  token = await tokens.issue({ streams: ['whole'], expiresInMs: 600_000, principal: 'somebody' });
  serving = await serve(sluice, {
    authorize: tokens.authorize,
    cors: { origins: [ORIGIN], credentials: true },
    trustProxy: 1,
    limits: {
      maxConnections: PLACES,
      maxConnectionsPerAddress: PLACES,
      maxConnectionsPerPrincipal: PLACES,
    },
  });
  subscribe('sluice:background.failed', onFailure);
});
afterAll(async () => {
  unsubscribe('sluice:background.failed', onFailure);
  await serving[Symbol.asyncDispose]();
  await sluice.close();
});

const hasBegun = ({ frames }: FrameReader): boolean => frames.some(({ id }) => id !== undefined);
const isEventStream = ({ headers }: RawAnswer): boolean =>
  headers.get('content-type')?.startsWith('text/event-stream') === true;

/** Asserts that an answer is one of those there are, and says nothing that its request put into it. */
const sound = (answer: RawAnswer, { hasBody }: RawRequest): void => {
  const { status, headers, body, reader } = answer;
  expect(status < 300 || (status >= 400 && status < 500)).toBe(true);
  expect(['none', ORIGIN]).toContain(headers.get('access-control-allow-origin') ?? 'none');
  expect(headers.has('x-injected')).toBe(false);
  if (!headers.has('content-type')) return expect([204, 400, 408, 417, 431]).toContain(status); // or node:http itself
  if (isEventStream(answer)) {
    expect(status).toBe(200);
    const ids = reader.frames.flatMap(({ id }) => (id === undefined ? [] : [decodeCursor(id)]));
    return expect(ids).not.toContain(undefined);
  }
  const isProblem = status >= 400;
  expect(headers.get('content-type')).toBe(isProblem ? 'application/problem+json' : 'application/json');
  if (hasBody && answer.isWhole)
    expect(JSON.parse(body)).toMatchObject(isProblem ? { status } : { ok: true });
};

/** After all that was sent: nothing failed in silence, and there is room for as many as there ever was. */
const unharmed = async (): Promise<void> => {
  expect(failures).toEqual([]);
  await until(() => serving.handler.stats().connections === 0);
  const open = (): ReturnType<typeof openSse> =>
    openSse(serving.url('whole', 'after=start'), { headers: { authorization: `Bearer ${token}` } });
  const clients = await Promise.all(upTo(PLACES).map(open));
  for (const client of clients) await client.received(2);
  await expect(open()).rejects.toThrow(/503/);
  for (const client of clients) client.close();
  await until(() => serving.handler.stats().connections === 0);
};

const byte = fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code));
const printable = fc.integer({ min: 0x21, max: 0xff }).map((code) => String.fromCharCode(code));
const mostly = <T>(some: fc.Arbitrary<T>, others: fc.Arbitrary<T>, weight = 6): fc.Arbitrary<T> =>
  fc.oneof({ weight, arbitrary: some }, others);

const broken = fc.constantFrom(
  '%',
  '%0',
  '%zz',
  '%00',
  '%c3%28',
  '%ed%a0%80',
  '%F4%90%80%80',
  '%0d%0ax-injected:%201',
  '%2e%2e%2f',
  '%u0041',
  '%%32%35',
  '\\..\\',
  '#',
  ';',
  '\u00ff\u00fe',
);
const parameter = mostly(
  fc.constantFrom('stream=whole', 'after=start', 'after=1', ''),
  fc.oneof(
    fc.constantFrom('format=data', 'presence=1', 'ticket=x', 'stream=other'),
    fc.tuple(fc.constantFrom('stream=', 'after=', 'ticket=', ''), broken).map((parts) => parts.join('')),
  ),
);
const query = fc
  .array(parameter, { maxLength: 4 })
  .map((parts) => `/v1/events?stream=whole&${parts.join('&')}`);
const target = mostly(
  fc.oneof(query, fc.constantFrom('/livez', '/readyz', '/metrics', '/', '/v1/events')),
  fc.oneof(
    fc.constantFrom(
      '*',
      '',
      '//',
      '//evil.example/v1/events',
      'http://evil.example/v1/events?stream=whole',
      'http://[::1',
      'http://user:word@host/livez',
      'https:/livez',
      'ftp://x/',
      'evil.example:443',
      '/v1/../v1/events',
      '/v1/%65vents?stream=whole',
      `/${'a'.repeat(17_000)}`,
      `/v1/events?${'stream=whole&'.repeat(600)}`,
    ),
    broken.map((text) => `/v1/${text}/events`),
    fc.string({ unit: printable, maxLength: 30 }).map((text) => `/${text}`),
    fc.string({ unit: byte, maxLength: 20 }),
  ),
  10,
);
const method = mostly(
  fc.constant('GET'),
  fc.constantFrom('HEAD', 'POST', 'OPTIONS', 'PUT', 'TRACE', 'CONNECT', 'get', 'PRI', 'QUERY', 'G\0T', ''),
  10,
);
const version = mostly(
  fc.constant('HTTP/1.1'),
  fc.constantFrom('HTTP/1.0', 'HTTP/0.9', 'HTTP/2.0', 'HTTP/1.11', 'http/1.1', 'HTTP/1.1 HTTP/1.1', ''),
  20,
);

// Most of it gets past node:http; the rest must not fell it either.
const value = mostly(
  fc.oneof(
    fc.string({ unit: printable, maxLength: 40 }),
    broken,
    fc.constantFrom('', ',', ';;', '"', 'a\tb'),
  ),
  fc.oneof(
    fc.string({ unit: byte, maxLength: 20 }),
    fc.constantFrom('x'.repeat(9000), 'x'.repeat(20_000), '1\r\n 2'),
  ),
  20,
);
const header = (name: string, ...usual: string[]): fc.Arbitrary<string> =>
  mostly(fc.constantFrom(...usual), value, 2).map((text) => `${name}: ${text}`);
const lines = mostly(
  fc.oneof(
    header('Last-Event-ID', 'start', '1', '2', '9', 'CURSOR', ''),
    header('Authorization', 'Bearer TOKEN', 'bearer  TOKEN', 'Bearer', 'Basic eDp5'),
    header('Origin', ORIGIN, 'null', `${ORIGIN}.evil`, 'https://evil.example'),
    header('Cookie', 'session=TOKEN', 'a=b; session=TOKEN', 'a=b'),
    header('Accept', 'text/event-stream', '*/*'),
    header(
      'X-Forwarded-For',
      '1.2.3.4',
      '::1, 9.9.9.9',
      'unknown',
      '1.2.3.4:99',
      '[::1]:1',
      ',,',
      '999.1.1.1',
    ),
    header('Sec-Fetch-Site', 'same-origin', 'cross-site'),
    header('Connection', 'close', 'keep-alive', 'upgrade'),
  ),
  fc.constantFrom(
    'Host: other',
    'Host: x/v1/events?stream=whole#',
    'Content-Length: 5',
    'Content-Length: -1',
    'Content-Length: 99999999999999999999',
    'Transfer-Encoding: chunked',
    'Transfer-Encoding: identity, chunked',
    'Expect: 100-continue',
    'Expect: nothing',
    'Upgrade: websocket',
    'Access-Control-Request-Method: GET',
    'Range: bytes=0-1',
    'If-None-Match: *',
    'no colon',
    ': no name',
    'Bad Name: 1',
    'Spaced : 1',
    ' folded',
    '__proto__: 1',
  ),
  20,
);
interface Draft {
  readonly method: string;
  readonly target: string;
  readonly version: string;
  readonly lines: readonly string[];
  readonly isAuthorized: boolean;
  readonly end: string;
  readonly rest: string;
  readonly cuts: readonly number[];
  readonly sent: number;
  readonly afterwards: RawRequest['afterwards'];
}
const draft: fc.Arbitrary<Draft> = fc.record({
  method,
  target,
  version,
  lines: fc.array(lines, { maxLength: 5 }),
  isAuthorized: fc.boolean(),
  end: mostly(fc.constant('\r\n'), fc.constantFrom('\n', '\r'), 20),
  rest: mostly(
    fc.constant(''),
    fc.oneof(fc.string({ unit: byte }), fc.constant('0\r\n\r\nGET /livez HTTP/1.1\r\n\r\n')),
  ),
  cuts: fc.array(fc.nat(600), { maxLength: 6 }),
  sent: mostly(fc.constant(1), fc.double({ min: 0, max: 1, noNaN: true })),
  afterwards: mostly(
    fc.constant('reads' as const),
    fc.constantFrom('finishes' as const, 'leaves' as const),
    3,
  ),
});

function requestOf(given: Draft): RawRequest {
  const host = ['Host: x'];
  const shown = given.isAuthorized ? [`Authorization: Bearer ${token}`] : [];
  const head = [
    `${given.method} ${given.target} ${given.version}`,
    ...host,
    ...shown,
    ...given.lines,
    '',
    '',
  ];
  const text = head.join(given.end).replaceAll('TOKEN', token).replaceAll('CURSOR', cursor) + given.rest;
  // Whatever it is, it comes to an end: a server may wait for more of a head that does not.
  const bytes = Buffer.from(given.afterwards === 'reads' ? `${text}\r\n\r\n` : text, 'latin1');
  const sent = given.afterwards === 'reads' ? bytes : bytes.subarray(0, Math.ceil(bytes.length * given.sent));
  const cuts = [...new Set([0, ...given.cuts.filter((cut) => cut < sent.length)])].toSorted((a, b) => a - b);
  return {
    pieces: cuts.map((cut, index) => sent.subarray(cut, cuts[index + 1])),
    afterwards: given.afterwards,
    hasBody: given.method !== 'HEAD',
  };
}

/** `SLUICE_FUZZ=20` looks that many times longer. */
const scale = Number(process.env['SLUICE_FUZZ'] ?? 1);

test(
  'I7: from the socket on: a 4xx, what was asked for, or an end; and every place is given back',
  { timeout: 120_000 * scale },
  async () => {
    const seen = new Map<string, number>();
    await fc.assert(
      fc.asyncProperty(draft, async (given) => {
        const request = requestOf(given);
        const answer = await exchange(serving.port, request, hasBegun);
        const what = answer ? `${answer.status}${isEventStream(answer) ? ' events' : ''}` : 'closed';
        seen.set(what, (seen.get(what) ?? 0) + 1);
        if (answer) sound(answer, request);
        // node:http hands over the socket of these, and closes it when nobody takes it.
        else if (request.afterwards === 'reads') expect(given.method).toBe('CONNECT');
      }),
      { numRuns: 1000 * scale, timeout: 10_000 },
    );
    const all = ['200 events', '200', '400', '401', '403', '404', 'closed'];
    expect([...seen.keys()]).toEqual(expect.arrayContaining(all));
    await unharmed();
  },
);

/** Lines of a head after the host, and what a request for the stream is answered. */
const repeated: [what: string, lines: string[], status: number][] = [
  ['Accept, which says no more than one', ['Authorization: GOOD', 'Accept: */*', 'Accept: text/html'], 200],
  ['Cookie, as browsers may split it', ['Cookie: a=b', 'Cookie: COOKIE'], 200],
  ['Cookie, with two tokens', ['Cookie: COOKIE', 'Cookie: COOKIE'], 401],
  ['Authorization, a good one first', ['Authorization: GOOD', 'Authorization: Bearer x'], 401],
  ['Authorization, a good one last', ['Authorization: Bearer x', 'Authorization: GOOD'], 401],
  ['Authorization, the same', ['Authorization: GOOD', 'Authorization: GOOD'], 401],
  ['Last-Event-ID', ['Authorization: GOOD', 'Last-Event-ID: start', 'Last-Event-ID: end'], 400],
  ['Last-Event-ID, the same', ['Authorization: GOOD', 'Last-Event-ID: 1', 'Last-Event-ID: 1'], 400],
  [
    'Origin, one of them allowed',
    ['Authorization: GOOD', `Origin: ${ORIGIN}`, 'Origin: https://evil.example'],
    403,
  ],
  ['Host', ['Authorization: GOOD', 'Host: x'], 400],
  ['Content-Length', ['Authorization: GOOD', 'Content-Length: 0', 'Content-Length: 1'], 400],
];
test.each(repeated)('a repeated header is not read as one of the two: %s', async (_, given, status) => {
  const head = ['GET /v1/events?stream=whole HTTP/1.1', 'Host: x', ...given, '', ''].join('\r\n');
  const text = head.replaceAll('GOOD', `Bearer ${token}`).replaceAll('COOKIE', `${COOKIE}=${token}`);
  const answer = await askRaw(serving.port, Buffer.from(text), hasBegun);
  expect(answer.status).toBe(status);
});

test('I7: a request in single bytes is answered, and one that ends after any of them takes no place', async () => {
  const bytes = Buffer.from(
    `GET /v1/events?stream=whole&after=start HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\n\r\n`,
  );
  const pieces = Array.from(bytes, (_, index) => bytes.subarray(index, index + 1));
  const request = { pieces, afterwards: 'reads', hasBody: true } as const;
  const answer = await exchange(serving.port, request, ({ messages }) => messages.length === 3);
  expect(answer?.status).toBe(200);
  for (const afterwards of ['leaves', 'finishes'] as const) {
    const cut = (length: number): Promise<unknown> =>
      exchange(serving.port, { ...request, pieces: [bytes.subarray(0, length)], afterwards }, hasBegun);
    for (let length = 0; length < bytes.length; length += 7) await cut(length);
    await Promise.all(upTo(PLACES - 1).map(() => cut(bytes.length)));
  }
  await unharmed();
});
