// Guards the Origin rules on a real server: who is answered with which headers, on every kind of answer, and that what is
// refused has caused nothing.
import { connect, type Sluice } from 'sluice';
import { createTokens, type CorsOptions, type HandlerOptions } from 'sluice/http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { nextMessage } from '../support/diagnostics.ts';
import { anyone, serve, type Serving } from '../support/serve.ts';
import { openSse } from '../support/sse.ts';
import { newSecret } from '../support/tokens.ts';

const db = useDatabase();
const shop = 'https://shop.example';
const evil = 'https://evil.example';
const tokens = createTokens({ secret: newSecret(), cookie: true });
let sluice: Sluice;
let bearer: string;

beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString });
  await sluice.stream('orders').append(1);
  bearer = await tokens.issue({ streams: ['orders'], expiresInMs: 600_000 });
});
afterAll(() => sluice.close());

const open = (cors?: CorsOptions, more: Partial<HandlerOptions> = {}): Promise<Serving> =>
  serve(sluice, { authorize: tokens.authorize, cors, ...more });

interface Answer {
  readonly status: number;
  /** The CORS headers and Vary alone. */
  readonly cors: Record<string, string>;
  readonly text: string;
}

const ask = async (
  serving: Serving,
  headers: Record<string, string>,
  { path = '/v1/events?stream=orders', method = 'GET' } = {},
): Promise<Answer> => {
  const response = await fetch(serving.origin + path, { headers, method });
  const cors = [...response.headers].filter(([name]) => /^(?:access-control-|vary$)/.test(name));
  const isStream = response.headers.get('content-type')?.startsWith('text/event-stream') === true;
  if (isStream) await response.body?.cancel();
  const text = isStream ? '' : await response.text();
  return { status: response.status, cors: Object.fromEntries(cors), text };
};
const cookie = (): string => `sluice_token=${bearer}`;
const authorization = (): string => `Bearer ${bearer}`;

const allowed = {
  'access-control-allow-origin': shop,
  'access-control-expose-headers': 'Retry-After, WWW-Authenticate',
  vary: 'Origin',
};

describe('without cors', () => {
  test('no CORS header is ever sent', async () => {
    await using serving = await open();
    const answers = await Promise.all([
      ask(serving, { authorization: authorization() }),
      ask(serving, { origin: shop }),
      ask(serving, { origin: shop, 'access-control-request-method': 'GET' }, { method: 'OPTIONS' }),
      ask(serving, { origin: shop }, { path: '/readyz' }),
    ]);
    expect(answers.map(({ status, cors }) => [status, cors])).toEqual([
      [200, {}],
      [401, {}],
      [405, {}],
      [200, {}],
    ]);
  });

  test('cookies count for pages of the same origin, and for programs', async () => {
    await using serving = await open();
    for (const headers of [
      {},
      { 'sec-fetch-site': 'same-origin' },
      { 'sec-fetch-site': 'none' },
      { origin: serving.origin },
    ]) {
      expect((await ask(serving, { cookie: cookie(), ...headers })).status).toBe(200);
    }
    for (const headers of [
      { origin: shop },
      { origin: 'null' },
      { origin: `${serving.origin}0` },
      { 'sec-fetch-site': 'cross-site' },
      { 'sec-fetch-site': 'same-site' },
      { 'sec-fetch-site': 'cross-site', origin: serving.origin },
    ]) {
      const { status, text, cors } = await ask(serving, { cookie: cookie(), ...headers });
      expect([status, cors]).toEqual([403, { vary: 'Origin' }]);
      expect(JSON.parse(text)).toMatchObject({
        title: 'Forbidden',
        detail: expect.stringMatching(/with cookies$/),
      });
    }
  });
});

describe('with cors', () => {
  test('a named origin reads every answer: streams, errors, refusals of the hook, health', async () => {
    await using serving = await open({ origins: [shop] });
    const origin = shop;
    const streams = await ask(serving, { origin, authorization: authorization() });
    expect([streams.status, streams.cors]).toEqual([200, allowed]);
    for (const [path, status] of [
      ['/v1/events?stream=orders', 401],
      ['/v1/events', 400],
      ['/v1/nothing', 404],
      ['/readyz', 200],
    ] as const) {
      expect(await ask(serving, { origin }, { path })).toMatchObject({ status, cors: allowed });
    }
    const other = await ask(serving, { authorization: authorization() });
    expect([other.status, other.cors]).toEqual([200, { vary: 'Origin' }]);
  });

  test('an error of ours can be read too', async () => {
    const authorize = (): Promise<never> => Promise.reject(new Error('broken'));
    await using serving = await open({ origins: [shop] }, { authorize });
    expect(await ask(serving, { origin: shop })).toMatchObject({ status: 500, cors: allowed });
  });

  test("a hook's own response is not changed by it", async () => {
    const refusal = new Response(null, { status: 403, headers: { vary: 'Cookie' } });
    await using serving = await open({ origins: [shop] }, { authorize: async () => refusal });
    for (let count = 0; count < 2; count += 1) {
      const { status, cors } = await ask(serving, { origin: shop });
      expect([status, cors]).toEqual([403, { ...allowed, vary: 'Cookie, Origin' }]);
    }
    expect([...refusal.headers]).toEqual([['vary', 'Cookie']]);
  });

  test('a preflight is answered without asking anybody', async () => {
    const authorize = (): Promise<never> => Promise.reject(new Error('asked'));
    await using serving = await open({ origins: [shop], credentials: true }, { authorize });
    const headers = {
      'access-control-request-method': 'GET',
      'access-control-request-headers': 'authorization, last-event-id',
    };
    const { status, cors, text } = await ask(serving, { origin: shop, ...headers }, { method: 'OPTIONS' });
    expect([status, text]).toEqual([204, '']);
    expect(cors).toEqual({
      'access-control-allow-credentials': 'true',
      'access-control-allow-headers': 'Authorization, Last-Event-ID, Cache-Control, Content-Type',
      'access-control-allow-methods': 'GET, HEAD',
      'access-control-allow-origin': shop,
      'access-control-max-age': '600',
      vary: 'Origin',
    });
    const refused = await ask(serving, { origin: evil, ...headers }, { method: 'OPTIONS' });
    expect([refused.status, refused.cors]).toEqual([403, { vary: 'Origin' }]);
    expect((await ask(serving, { origin: shop }, { method: 'OPTIONS' })).status).toBe(405);
  });

  test('cookies from a named origin count if that was said, and the page may read the answer', async () => {
    await using without = await open({ origins: [shop] });
    expect((await ask(without, { origin: shop, cookie: cookie() })).status).toBe(403);
    await using serving = await open({ origins: [shop], credentials: true });
    expect(await ask(serving, { origin: shop, cookie: cookie() })).toMatchObject({
      status: 200,
      cors: { ...allowed, 'access-control-allow-credentials': 'true' },
    });
  });

  test('what says who asks is refused to other origins before anybody is asked', async () => {
    const authorize = (): Promise<never> => Promise.reject(new Error('asked'));
    await using serving = await open({ origins: [shop], credentials: true }, { authorize });
    const ticket = await tokens.ticket({ streams: ['orders'] });
    for (const [headers, path, carried] of [
      [{ cookie: 'a=b' }, undefined, 'cookies'],
      [{ authorization: 'Bearer x' }, undefined, 'an Authorization header'],
      [{}, `/v1/events?stream=orders&ticket=${ticket}`, 'a ticket'],
    ] as const) {
      const { status, text, cors } = await ask(serving, { origin: evil, ...headers }, { path });
      expect([status, cors]).toEqual([403, { vary: 'Origin' }]);
      expect((JSON.parse(text) as { detail: string }).detail).toBe(
        `pages of origin "${evil}" may not ask here with ${carried}`,
      );
    }
  });

  test('a ticket from a named origin opens a stock EventSource', async () => {
    await using serving = await open({ origins: [shop] });
    const ticket = await tokens.ticket({ streams: ['orders'] });
    using client = await openSse(serving.url('orders', `after=start&ticket=${ticket}`), {
      headers: { origin: shop, 'sec-fetch-site': 'cross-site' },
    });
    await client.received(1);
    expect(client.response.headers).toMatchObject(allowed);
  });

  test('for all: any origin, never with cookies', async () => {
    await using serving = await open({ origins: ['*'] });
    const granted = { ...allowed, 'access-control-allow-origin': '*' };
    expect(await ask(serving, { origin: evil, authorization: authorization() })).toMatchObject({
      status: 200,
      cors: granted,
    });
    expect((await ask(serving, { origin: evil, cookie: cookie() })).status).toBe(403);
  });

  test('a function decides; one that throws opens nothing and is reported', async () => {
    await using serving = await open({ origins: (origin) => new URL(origin).hostname.endsWith('.example') });
    const headers = { authorization: authorization() };
    expect((await ask(serving, { origin: shop, ...headers })).status).toBe(200);
    expect((await ask(serving, { origin: 'https://shop.test', ...headers })).status).toBe(403);
    const failed = nextMessage<{ where: string }>('sluice:background.failed');
    expect(await ask(serving, { origin: 'null', ...headers })).toMatchObject({ status: 500, cors: {} });
    expect((await failed).where).toBe('request');
  });

  test('wrong options are refused when the handler is made', async () => {
    await expect(open({ origins: ['https://shop.example/'] })).rejects.toThrow(
      /write https:\/\/shop\.example/,
    );
    await expect(open(undefined, { trustProxy: -1 })).rejects.toThrow(/trustProxy is -1/);
    await expect(open(undefined, { authorize: anyone, revocations: '' })).rejects.toThrow(/revocations/);
  });
});
