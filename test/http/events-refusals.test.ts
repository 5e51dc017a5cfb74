// Guards what is refused before the first byte: wrong parameters with the value and the remedy, who may not read, and
// hostile requests. An authorize hook that fails in any way opens nothing (fail closed), and nothing internal is told.
import { connect, SluiceError, type ConnectOptions, type Sluice } from 'sluice';
import { createHandler, type Authorize, type Grant } from 'sluice/http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { nextMessage } from '../support/diagnostics.ts';
import { anyone, serve, type Serving } from '../support/serve.ts';
import { openSse } from '../support/sse.ts';

const db = useDatabase();
let sluice: Sluice;
let serving: Serving;

beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString });
  serving = await serve(sluice);
  await sluice.createStream('known');
});
afterAll(async () => {
  await serving[Symbol.asyncDispose]();
  await sluice.close();
});

interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code?: string;
}

/** Asserts that a response is a problem document, and gives it. */
const problemOf = async (response: Response): Promise<Problem> => {
  expect(response.headers.get('content-type')).toBe('application/problem+json');
  expect(response.headers.get('cache-control')).toBe('no-store');
  const problem = (await response.json()) as Problem;
  expect(problem).toMatchObject({ type: 'about:blank', title: expect.any(String), status: response.status });
  return problem;
};
const refused = async (path: string, init?: RequestInit): Promise<Problem> =>
  problemOf(await fetch(`${serving.origin}${path}`, init));

const many = (count: number): string =>
  Array.from({ length: count }, (_, index) => `stream=s${index}`).join('&');

describe('parameters', () => {
  const long = 'é'.repeat(257);
  test.each([
    ['no stream', '', /\?stream=/, undefined],
    ['an empty name', 'stream=', /must not be empty/, 'name_invalid'],
    ['a name too long', `stream=${long}`, /"é{80}…" is longer than 512 bytes/, 'name_invalid'],
    ['a control character', 'stream=a%0Ab', /"a\\nb" contains a control character/, 'name_invalid'],
    ['U+0000', 'stream=a%00', /"a\\u0000" contains a control character/, 'name_invalid'],
    ['21 streams', many(21), /21 streams .* one connection reads 20/, undefined],
    ['data of two', 'stream=known&stream=other&format=data', /which stream an event is of/, undefined],
    ['a format', 'stream=known&format=xml', /format is "xml"; use envelope or data/, undefined],
    ['an empty format', 'stream=known&format=', /format is ""; use envelope or data/, undefined],
    ['a control character in format', 'stream=known&format=%0D%0A', /format is "\\r\\n"; use/, undefined],
  ])('%s: 400 with the value and the remedy', async (_, query, detail, code) => {
    const problem = await refused(`/v1/events?${query}`);
    expect(problem).toMatchObject({ status: 400, detail: expect.stringMatching(detail) });
    expect(problem.code).toBe(code);
  });

  const positions = [
    '',
    '-1',
    '+1',
    '1.5',
    '0x10',
    '1e3',
    '007',
    '9223372036854775808',
    '99999999999999999999',
    ' 12',
    '12 ',
    '1_000',
    'START',
    'End',
    'now',
    '1-2',
    '1-2-3-4',
    '1-2-zzzzzzz',
    '0-1-1',
    '1-01-1',
    '\0',
    '1\n2',
    '१२',
    'null',
    'undefined',
    'NaN',
    '5, 6',
  ];
  test.each(positions)('after=%j: 400, cursor_invalid', async (after) => {
    const problem = await refused(`/v1/events?stream=known&after=${encodeURIComponent(after)}`);
    expect(problem).toMatchObject({ status: 400, code: 'cursor_invalid' });
    expect(problem.detail).toContain(
      `after is ${JSON.stringify(after)}, which is not a position; use a cursor`,
    );
  });

  test('a position is shown in part, however long', async () => {
    const { detail } = await refused(`/v1/events?stream=known&after=${'9'.repeat(9000)}`);
    expect(detail.length).toBeLessThan(300);
    expect(detail).toContain(`"${'9'.repeat(80)}"`);
  });

  test('a bad Last-Event-ID is refused, also beside a good after', async () => {
    for (const id of ['-1', 'x y', '9223372036854775808']) {
      const problem = await refused('/v1/events?stream=known&after=start', {
        headers: { 'last-event-id': id },
      });
      expect(problem).toMatchObject({ status: 400, code: 'cursor_invalid' });
      expect(problem.detail).toContain(`Last-Event-ID is "${id}"`);
    }
  });

  test('two Last-Event-ID headers are refused: neither is guessed', async () => {
    const answer = await serving.raw(
      'GET /v1/events?stream=known HTTP/1.1\r\nhost: x\r\nconnection: close\r\nlast-event-id: 5\r\nlast-event-id: 6\r\n\r\n',
    );
    expect(answer).toMatch(/^HTTP\/1\.1 400 /);
    expect(answer).toContain(String.raw`Last-Event-ID is \"5, 6\"`);
  });
});

describe('routes', () => {
  test('an unknown stream: 404', async () => {
    const problem = await refused('/v1/events?stream=un%22known');
    expect(problem).toMatchObject({ status: 404, code: 'stream_not_found' });
    expect(problem.detail).toContain('"un\\"known"');
  });

  test.each([
    '/',
    '/v1',
    '/v1/events/',
    '/v1/event',
    '/V1/events',
    '/v1/events/known',
    '//v1/events',
    '/metrics',
  ])('%s: 404', async (path) => {
    const problem = await refused(`${path}?stream=known`);
    expect(problem).toMatchObject({ status: 404, detail: `there is nothing at ${path}` });
  });

  test.each(['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'])(
    '%s /v1/events: 405 with Allow',
    async (method) => {
      const response = await fetch(serving.url('known'), { method });
      expect(response.headers.get('allow')).toBe('GET');
      expect(await problemOf(response)).toMatchObject({ status: 405, detail: 'use GET' });
      const health = await fetch(`${serving.origin}/readyz`, { method });
      expect(health.headers.get('allow')).toBe('GET, HEAD');
      expect((await problemOf(health)).status).toBe(405);
    },
  );

  test('below a base path, and nowhere else', async () => {
    await using based = await serve(sluice, { basePath: '/api/sluice' });
    using client = await openSse(`${based.origin}/api/sluice/v1/events?stream=known`);
    expect(client.response.statusCode).toBe(200);
    for (const path of ['/v1/events', '/api/sluicev1/events', '/api/sluice', '/api/v1/events']) {
      expect((await fetch(`${based.origin}${path}?stream=known`)).status).toBe(404);
    }
  });
});

describe('createHandler', () => {
  const make = (options: object): (() => unknown) => {
    return () => createHandler(sluice, options as Parameters<typeof createHandler>[1]);
  };

  test('refuses to be made without an authorize hook', () => {
    for (const authorize of [undefined, null, true, {}]) expect(make({ authorize })).toThrow(TypeError);
  });

  test.each(['/', 'sluice', '/sluice/', '//', 'http://x/y', '/a?b', '/a#b', '/a/../b', '/a b'])(
    'refuses basePath %j, which no request can match',
    (basePath) => {
      expect(make({ authorize: anyone, basePath })).toThrow(TypeError);
    },
  );

  test('refuses a basePath that is no text', () => {
    expect(make({ authorize: anyone, basePath: 5 })).toThrow('basePath is 5;');
  });

  test.each(['heartbeatMs', 'retryMs', 'drainTimeoutMs'])('refuses a %s that is no duration', (name) => {
    for (const value of [0, -1, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 31, '15']) {
      expect(make({ authorize: anyone, limits: { [name]: value } })).toThrow(RangeError);
    }
  });

  test('refuses what connect() did not return', () => {
    expect(() => createHandler({} as Sluice, { authorize: anyone })).toThrow(TypeError);
  });
});

describe('authorize', () => {
  const answerWith = async (
    authorize: (...asked: Parameters<Authorize>) => unknown,
    stream = 'known',
  ): Promise<Response> => {
    await using guarded = await serve(sluice, { authorize: authorize as Authorize });
    const response = await fetch(guarded.url(stream));
    const text = response.status === 200 ? await response.body?.cancel() : await response.text();
    return new Response(text ?? '', response);
  };

  test('is asked once, about the stream and the action, with the request', async () => {
    const asked: unknown[] = [];
    await answerWith(async (request, streams, action) => {
      asked.push([new URL(request.url).search, request.headers.get('accept'), streams, action]);
      return { principal: null };
    });
    expect(asked).toEqual([['?stream=known', '*/*', ['known'], 'read']]);
  });

  test('its own response is sent as it is, and says nothing about the stream', async () => {
    const refuse = async (): Promise<Response> =>
      new Response('who are you?', { status: 401, headers: { 'www-authenticate': 'Bearer', 'x-own': '1' } });
    for (const stream of ['known', 'unknown']) {
      const response = await answerWith(refuse, stream);
      expect(response.status).toBe(401);
      expect(response.headers.get('www-authenticate')).toBe('Bearer');
      expect(response.headers.get('x-own')).toBe('1');
      expect(await response.text()).toBe('who are you?');
    }
  });

  test('a response that was sent before is not sent again in part: 500, and the log says why', async () => {
    const told: unknown[] = [];
    const logger = { error: (facts: unknown) => told.push(facts) } as unknown as ConnectOptions['logger'];
    await using own = await connect({ connectionString: db.connectionString, logger });
    const kept = new Response('no', { status: 403 });
    await using guarded = await serve(own, { authorize: async () => kept });
    const first = await fetch(guarded.url('known'));
    expect([first.status, await first.text()]).toEqual([403, 'no']);
    expect((await fetch(guarded.url('known'))).status).toBe(500);
    expect(told).toEqual([
      expect.objectContaining({
        error: expect.objectContaining({ message: expect.stringMatching(/sent before/) }),
      }),
    ]);
  });

  const foreign = { status: 403, headers: new Headers(), body: null, ok: false };
  test.each<[string, unknown]>([
    ['undefined', undefined],
    ['null', null],
    ['false', false],
    ['true', true],
    ['a string', 'ok'],
    ['an empty object', {}],
    ['a response that is none of this realm', foreign],
    ['a principal that is not a string', { principal: 7 }],
    ['an expiry that is not a date', { principal: 'a', expiresAt: '2999-01-01' }],
    ['an expiry in seconds', { principal: 'a', expiresAt: 32_472_144_000 }],
    ['an expiry of null', { principal: 'a', expiresAt: null }],
  ])('that answers %s opens nothing: 500', async (_, answer) => {
    expect((await answerWith(async () => answer)).status).toBe(500);
  });

  test.each([
    ['an error', new Error('secret 1')],
    ['nothing', undefined],
    ['an error of ours', new SluiceError('stream_not_found', 'secret 2')],
    ['an error of ours that may pass', new SluiceError('connection_lost', 'secret 3')],
    ['an error of ours about a cursor', new SluiceError('cursor_invalid', 'secret 4')],
  ])('that throws %s opens nothing and tells nothing: 500', async (_, error) => {
    const failed = nextMessage<{ error: unknown }>('sluice:background.failed');
    const response = await answerWith(() => Promise.reject(error));
    const problem = await problemOf(response);
    expect(problem).toMatchObject({ status: 500, title: 'Internal Server Error' });
    expect(JSON.stringify(problem)).not.toMatch(/secret|stream_not_found|connection|cursor/);
    expect((await failed).error).toBe(error);
  });

  test('an expired grant, or one that expires at no date: 401', async () => {
    for (const expiresAt of [new Date(0), new Date(performance.timeOrigin), new Date(Number.NaN)]) {
      const grant: Grant = { principal: 'a', expiresAt };
      expect(await problemOf(await answerWith(async () => grant))).toMatchObject({
        status: 401,
        detail: expect.stringMatching(/expired; get a new one/),
      });
    }
  });

  test('an expired grant does not reveal whether the stream exists', async () => {
    const grant = async (): Promise<Grant> => ({ principal: 'a', expiresAt: new Date(0) });
    expect((await answerWith(grant, 'unknown')).status).toBe(401);
  });
});

describe('hostile requests', () => {
  const status = async (text: string): Promise<string> =>
    (await serving.raw(text)).slice(0, 12).replace('HTTP/1.1 ', '');
  const get = (target: string, host: string): Promise<string> =>
    status(`GET ${target} HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`);

  test.each([
    'x/v1/events?stream=known#',
    'x/livez?',
    'x?',
    'x#',
    '',
    'user:password@x',
    'x\\y',
    'x y',
    'x:99999',
    '[::1',
    'a, b',
    '<script>',
    'x%00',
  ])('Host: %s: 400, never another path', async (host) => {
    expect(await get('/v1/livez', host)).toBe('400');
  });

  test.each([
    'example.org',
    'example.org:8080',
    '[::1]:80',
    '127.0.0.1',
    'xn--bcher-kva.example',
    'a_b.internal',
  ])('Host: %s is fine', async (host) => {
    expect(await get('/livez', host)).toBe('200');
  });

  test('a target in absolute form is read as its path, as RFC 9112 asks', async () => {
    expect(await get('http://elsewhere.example/livez', 'x')).toBe('200');
    expect(await get('http://elsewhere.example/nothing', 'x')).toBe('404');
  });

  test('two Host headers, none at all, and methods nobody knows', async () => {
    expect(await status('GET /livez HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: close\r\n\r\n')).toBe(
      '400',
    );
    expect(await status('GET /livez HTTP/1.1\r\nconnection: close\r\n\r\n')).toBe('400');
    expect(await status('TRACE /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n')).toBe('400');
    expect(await status('GET /livez HTTP/1.0\r\n\r\n')).toBe('200');
  });
});
