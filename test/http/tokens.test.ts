// Guards capability tokens over real sockets: what they open and nothing else, each only where it belongs, until they
// expire; keys that rotate; and that nobody can tell a stream that is hidden from one that does not exist.
import { UnsecuredJWT } from 'jose';
import * as fc from 'fast-check';
import { connect, type Sluice } from 'sluice';
import { createTokens, type Grant, type Tokens } from 'sluice/http';
import { afterAll, beforeAll, describe, expect, test, onTestFinished, vi } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { nextMessage } from '../support/diagnostics.ts';
import { serve, type Serving } from '../support/serve.ts';
import { openSse } from '../support/sse.ts';
import { decodePart, forge, newSecret } from '../support/tokens.ts';

const db = useDatabase();
const secret = newSecret();
const tokens = createTokens({ secret, cookie: true });
const minute = { expiresInMs: 60_000 };
let sluice: Sluice;
let serving: Serving;

beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString });
  for (const name of ['orders', 'orders/eu', 'hidden', 'a*']) await sluice.stream(name).append(1);
  serving = await serve(sluice, { authorize: tokens.authorize });
});
afterAll(async () => {
  await serving[Symbol.asyncDispose]();
  await sluice.close();
});

interface Shown {
  readonly bearer?: string;
  readonly ticket?: string;
  readonly cookie?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Another stream beside. */
  readonly and?: string;
}

const show = async (
  { bearer, ticket, cookie, headers, and }: Shown,
  stream = 'orders',
  at = serving,
): Promise<Response> => {
  const response = await fetch(
    at.url(
      stream,
      new URLSearchParams({
        ...(ticket === undefined ? {} : { ticket }),
        ...(and === undefined ? {} : { stream: and }),
      }).toString(),
    ),
    {
      headers: {
        ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
        ...(cookie === undefined ? {} : { cookie }),
        ...headers,
      },
    },
  );
  if (response.status === 200) await response.body?.cancel();
  return response;
};
const statusOf = async (...shown: Parameters<typeof show>): Promise<number> => {
  const response = await show(...shown);
  if (response.status !== 200) await response.body?.cancel();
  return response.status;
};

describe('what a token opens', () => {
  test('a stream by name, over a header, a cookie and as a ticket', async () => {
    const token = await tokens.issue({ streams: ['orders'], ...minute });
    const ticket = await tokens.ticket({ streams: ['orders'] });
    expect(await statusOf({ bearer: token })).toBe(200);
    expect(await statusOf({ headers: { authorization: `bearer  ${token}` } })).toBe(200);
    expect(await statusOf({ cookie: `a=b; sluice_token=${token}; c=d` })).toBe(200);
    expect(await statusOf({ ticket })).toBe(200);
    using client = await openSse(serving.url('orders', `after=start&ticket=${ticket}`));
    await client.received(1);
  });

  test.each([
    [['orders'], { orders: 200, 'orders/eu': 404, hidden: 404 }],
    [['orders*'], { orders: 200, 'orders/eu': 200, hidden: 404 }],
    [['orders/*'], { orders: 404, 'orders/eu': 200 }],
    [['order'], { orders: 404 }],
    [['hidden', 'orders/*'], { hidden: 200, 'orders/eu': 200, orders: 404 }],
    [['*'], { orders: 200, hidden: 200, 'a*': 200 }],
    [['a*'], { 'a*': 200, orders: 404 }],
    [['*orders'], { orders: 404 }],
    [['o*s'], { orders: 404 }],
  ])('%j', async (streams, expected) => {
    const bearer = await tokens.issue({ streams, ...minute });
    for (const [name, status] of Object.entries(expected))
      expect(await statusOf({ bearer }, name)).toBe(status);
  });

  test('several streams on one connection: all of them, or none', async () => {
    const bearer = await tokens.issue({ streams: ['orders*'], ...minute });
    expect(await statusOf({ bearer, and: 'orders/eu' })).toBe(200);
    expect(await statusOf({ bearer, and: 'hidden' })).toBe(404);
    expect(await statusOf({ bearer, and: 'orders' }, 'hidden')).toBe(404);
  });

  test('the grant has the principal, the context, the id and both dates', async () => {
    const request = { principal: 'ann', streams: ['orders'], context: { roles: ['x'] }, id: 'token 1' };
    const ask = async (token: string, where: 'header' | 'ticket'): Promise<Grant> => {
      const headers: Record<string, string> = where === 'header' ? { authorization: `Bearer ${token}` } : {};
      const url = `http://x/v1/events?ticket=${token}`;
      return (await tokens.authorize(new Request(url, { headers }), ['orders'], 'read')) as Grant;
    };
    const grant = await ask(await tokens.issue({ ...request, ...minute }), 'header');
    expect(grant).toMatchObject({ principal: 'ann', context: { roles: ['x'] }, id: 'token 1' });
    expect(grant.expiresAt!.getTime() - grant.issuedAt!.getTime()).toBe(60_000);
    const opened = await ask(await tokens.ticket({ ...request, connectionMs: 90_000 }), 'ticket');
    expect(opened.expiresAt!.getTime() - opened.issuedAt!.getTime()).toBe(90_000);
    const anonymous = await ask(await tokens.issue({ streams: ['orders'], ...minute }), 'header');
    expect(anonymous).toMatchObject({
      principal: null,
      context: undefined,
      id: expect.stringMatching(/^[\w-]{36}$/),
    });
  });

  test('an action it does not name is hidden like a stream', async () => {
    const bearer = await tokens.issue({ streams: ['*'], actions: ['append'], ...minute });
    expect(await statusOf({ bearer })).toBe(404);
    const request = new Request('http://x/', { headers: { authorization: `Bearer ${bearer}` } });
    expect(await tokens.authorize(request, ['orders'], 'append')).toMatchObject({ principal: null });
    expect(await tokens.authorize(request, [], 'append')).toMatchObject({ status: 404 });
    expect(await tokens.authorize(request, ['orders'], 'manage')).toMatchObject({ status: 404 });
  });
});

describe('what is not told', () => {
  const answerTo = async (shown: Shown, stream: string): Promise<unknown> => {
    const response = await show(shown, stream);
    const headers = [...response.headers].filter(([name]) => name !== 'date');
    return { status: response.status, headers, body: (await response.text()).replaceAll(stream, '…') };
  };

  test('a hidden stream, a hidden one that does not exist, and a covered one that does not: one answer', async () => {
    const bearer = await tokens.issue({ streams: ['orders*'], ...minute });
    const missing = await answerTo({ bearer }, 'orders, missing');
    expect(missing).toMatchObject({
      status: 404,
      body: expect.stringContaining('"code":"stream_not_found"'),
    });
    expect(await answerTo({ bearer }, 'hidden')).toEqual(missing);
    expect(await answerTo({ bearer }, 'hidden, missing')).toEqual(missing);
  });

  test('without a good token all streams are alike', async () => {
    const old = await forge(await tokens.issue({ streams: ['*'], ...minute }), {
      secret,
      claims: { exp: 1, iat: 0 },
    });
    for (const shown of [{}, { bearer: 'x' }, { bearer: old }, { ticket: old }]) {
      const answer = await answerTo(shown, 'orders');
      expect(answer).toMatchObject({ status: 401 });
      expect(await answerTo(shown, 'missing')).toEqual(answer);
    }
  });

  test('401 names the scheme, and says when a token was shown and is no good', async () => {
    const none = await show({});
    expect(none.headers.get('www-authenticate')).toBe('Bearer realm="sluice"');
    expect(await none.json()).toMatchObject({
      status: 401,
      detail: expect.stringContaining('Authorization: Bearer'),
    });
    const bad = await show({ bearer: 'x' });
    expect(bad.headers.get('www-authenticate')).toBe('Bearer realm="sluice", error="invalid_token"');
    expect(await bad.json()).toMatchObject({ detail: 'the token is not valid here; get a new one' });
  });
});

describe('each where it belongs', () => {
  test('a token is no ticket, a ticket no token', async () => {
    const token = await tokens.issue({ streams: ['*'], ...minute });
    const ticket = await tokens.ticket({ streams: ['*'] });
    expect(await statusOf({ ticket: token })).toBe(401);
    expect(await statusOf({ bearer: ticket })).toBe(401);
    expect(await statusOf({ cookie: `sluice_token=${ticket}` })).toBe(401);
    for (const name of ['token', 'access_token', 'sluice_token', 'Ticket']) {
      const response = await fetch(`${serving.url('orders')}&${name}=${name === 'Ticket' ? ticket : token}`);
      expect(response.status).toBe(401);
    }
  });

  test('what comes first is all that counts: no bad one is made good by another', async () => {
    const bearer = await tokens.issue({ streams: ['*'], ...minute });
    const ticket = await tokens.ticket({ streams: ['*'] });
    const cookie = `sluice_token=${bearer}`;
    expect(await statusOf({ bearer: 'x', ticket, cookie })).toBe(401);
    expect(await statusOf({ headers: { authorization: 'Basic YTpi' }, ticket, cookie })).toBe(401);
    expect(await statusOf({ ticket: '', cookie })).toBe(401);
    expect(await statusOf({ bearer, ticket: 'x', cookie: 'sluice_token=x' })).toBe(200);
    expect(await statusOf({ cookie: `${cookie}; sluice_token=x` })).toBe(401);
    expect((await fetch(serving.url('orders', `ticket=${ticket}&ticket=${ticket}`))).status).toBe(401);
  });

  test('a cookie counts only if that was said, and under its name', async () => {
    const token = await tokens.issue({ streams: ['*'], ...minute });
    await using closed = await serve(sluice, { authorize: createTokens({ secret }).authorize });
    expect(await statusOf({ cookie: `sluice_token=${token}` }, 'orders', closed)).toBe(401);
    const named = createTokens({ secret, cookie: '__Host-streams' });
    await using open = await serve(sluice, { authorize: named.authorize });
    expect(await statusOf({ cookie: `__Host-streams=${token}` }, 'orders', open)).toBe(200);
    expect(await statusOf({ cookie: `sluice_token=${token}` }, 'orders', open)).toBe(401);
  });
});

describe('expiry', () => {
  test('a connection ends when its token expires, and the token opens nothing more', async () => {
    const bearer = await tokens.issue({ streams: ['orders'], expiresInMs: 2000 });
    using client = await openSse(serving.url('orders', 'after=start'), {
      headers: { authorization: `Bearer ${bearer}` },
    });
    const closed = nextMessage<{ reason: string }>('sluice:sse.closed', ({ reason }) => reason === 'expired');
    await client.received(1);
    await Promise.all([closed, client.ended()]);
    const again = await show({ bearer });
    expect([again.status, again.headers.get('www-authenticate')]).toEqual([
      401,
      'Bearer realm="sluice", error="invalid_token"',
    ]);
    expect(await again.json()).toMatchObject({ detail: 'the token has expired; get a new one' });
  });

  test('a connection ends with its token although timers stood still, as they do while a machine sleeps', async () => {
    await using serving = await serve(sluice, {
      authorize: tokens.authorize,
      limits: { heartbeatMs: 20 },
    });
    const bearer = await tokens.issue({ streams: ['orders'], expiresInMs: 3_600_000 });
    using client = await openSse(serving.url('orders'), { headers: { authorization: `Bearer ${bearer}` } });
    await client.opened();
    const closed = nextMessage<{ reason: string }>('sluice:sse.closed', ({ reason }) => reason === 'expired');
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 3_600_000 });
    onTestFinished(() => void vi.useRealTimers());
    await Promise.all([closed, client.ended()]);
  });

  test('a connection opened with a ticket outlives the ticket', async () => {
    const ticket = await tokens.ticket({ streams: ['orders'], expiresInMs: 2000, connectionMs: 60_000 });
    const url = serving.url('orders', `after=start&ticket=${ticket}`);
    using client = await openSse(url);
    await client.received(1);
    for (let status = 200; status !== 401;) status = await statusOf({ ticket });
    await sluice.stream('orders').append(2);
    await client.received(2);
  });
});

describe('keys', () => {
  const bearerOf = async (made: Tokens): Promise<string> => made.issue({ streams: ['*'], ...minute });

  test('the first signs, all verify, and one that is gone verifies nothing more', async () => {
    const [old, fresh] = [newSecret(), newSecret()];
    const before = await bearerOf(createTokens({ secret: old }));
    const after = await bearerOf(createTokens({ secret: [fresh, old] }));
    const serveWith = (secrets: string[]): Promise<Serving> =>
      serve(sluice, { authorize: createTokens({ secret: secrets }).authorize });
    await using both = await serveWith([fresh, old]);
    await using done = await serveWith([fresh]);
    await using never = await serveWith([old]);
    const table = await Promise.all(
      [both, done, never].map(async (at) =>
        Promise.all([before, after].map(async (bearer) => statusOf({ bearer }, 'orders', at))),
      ),
    );
    expect(table).toEqual([
      [200, 200],
      [401, 200],
      [200, 401],
    ]);
    expect(decodePart(before, 0)['kid']).not.toBe(decodePart(after, 0)['kid']);
  });

  test('a token names the issuer that is asked for, and none where none is', async () => {
    const staging = createTokens({ secret, issuer: 'staging' });
    await using other = await serve(sluice, { authorize: staging.authorize });
    const [theirs, ours] = [await bearerOf(staging), await bearerOf(tokens)];
    expect(await statusOf({ bearer: theirs }, 'orders', other)).toBe(200);
    expect(await statusOf({ bearer: ours }, 'orders', other)).toBe(401);
    expect(await statusOf({ bearer: theirs })).toBe(401);
  });

  test.each([
    ['short', 'hush', /secret has 4 bytes; at least 32 are needed.*openssl rand/],
    ['empty', '', /secret has 0 bytes/],
    ['31 bytes', newSecret().slice(0, 31), /secret has 31 bytes/],
    ['repeating', 'abc'.repeat(20), /repeats the same few characters/],
    ['the second of two', [newSecret(), 'hush'], /secret 2 has 4 bytes/],
    ['none', [], /empty list/],
  ])('a weak secret is refused: %s', (_, weak, message) => {
    expect(() => createTokens({ secret: weak })).toThrow(message);
    expect(() => createTokens({ secret: weak })).toThrow(RangeError);
  });

  test('no message repeats a secret; what is no secret is a TypeError', () => {
    const weak = 'correct horse battery staple!';
    expect(() => createTokens({ secret: weak })).toThrow(expect.not.stringContaining('horse'));
    for (const wrong of [undefined, null, 7, [7], {}]) {
      expect(() => createTokens({ secret: wrong as string })).toThrow(TypeError);
    }
  });
});

describe('forgeries', () => {
  const admitted = async (bearer: string): Promise<number> => statusOf({ bearer });
  let good: string;
  beforeAll(async () => {
    good = await tokens.issue({ streams: ['*'], ...minute });
    expect(await admitted(await forge(good, { secret }))).toBe(200);
  });

  const now = Date.now() / 1000;
  test.each<[string, object]>([
    ['no expiry', { exp: undefined }],
    ['an expiry that is no number', { exp: '2999' }],
    ['an expiry beyond all dates', { exp: 1e300 }],
    ['a life longer than any may have', { exp: now + 31 * 86_400 }],
    ['an issue in the future', { iat: now + 3600, exp: now + 7200 }],
    ['no issue', { iat: undefined }],
    ['not yet valid', { nbf: now + 3600 }],
    ['no id', { jti: undefined }],
    ['an id that is no text', { jti: 7 }],
    ['another audience', { aud: 'elsewhere' }],
    ['no audience', { aud: undefined }],
    ['an issuer', { iss: 'elsewhere' }],
    ['a subject that is no text', { sub: 7 }],
    ['no streams', { streams: undefined }],
    ['an empty list of streams', { streams: [] }],
    ['streams that are one text', { streams: '*' }],
    ['a stream that is no name', { streams: ['*', ''] }],
    ['no actions', { actions: undefined }],
    ['unknown actions', { actions: ['read', 'everything'] }],
    ['a longer stay than its life', { until: now + 3600 }],
  ])('signed with the secret, but with %s', async (_, claims) => {
    expect(await admitted(await forge(good, { secret, claims: claims as Record<string, unknown> }))).toBe(
      401,
    );
  });

  test('signed with another secret, by another algorithm, of another type, with an unknown key, or not at all', async () => {
    expect(await admitted(await forge(good, { secret: newSecret() }))).toBe(401);
    for (const header of [{ typ: 'JWT' }, { typ: undefined }, { kid: 'x' }, { kid: undefined }, { kid: 7 }]) {
      expect(await admitted(await forge(good, { secret, header }))).toBe(401);
    }
    const long = secret + secret; // as long as HS512 asks
    const strong = createTokens({ secret: long });
    const ask = async (token: string): Promise<Grant | Response> =>
      strong.authorize(
        new Request('http://x/', { headers: { authorization: `Bearer ${token}` } }),
        ['a'],
        'read',
      );
    const made = await strong.issue({ streams: ['*'], ...minute });
    expect(await ask(await forge(made, { secret: long }))).toMatchObject({ principal: null });
    const other = await forge(made, { secret: long, header: { alg: 'HS512' } });
    expect(await ask(other)).toMatchObject({ status: 401 });
    const unsecured = new UnsecuredJWT(decodePart(good, 1)).encode();
    expect(await admitted(unsecured)).toBe(401);
    expect(await admitted(`${good.split('.').slice(0, 2).join('.')}.`)).toBe(401);
  });

  test('a ticket that lives longer than tickets may', async () => {
    const ticket = await tokens.ticket({ streams: ['*'] });
    expect(await statusOf({ ticket: await forge(ticket, { secret }) })).toBe(200);
    expect(await statusOf({ ticket: await forge(ticket, { secret, claims: { exp: now + 3600 } }) })).toBe(
      401,
    );
  });

  const base64url = fc.constantFrom(...Array.from('abcXYZ019-_.=+/ %'));
  test('a token has one spelling: the bits of the last character that say nothing must be clear', async () => {
    const alphabet = Array.from('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_');
    const others = alphabet.map((last) => good.slice(0, -1) + last).filter((token) => token !== good);
    expect(new Set(await Promise.all(others.map((token) => admitted(token))))).toEqual(new Set([401]));
  });

  test('no mutation of a good token gets in, and none is an error of ours', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(), base64url, fc.constantFrom(0, 1, 2), async (at, character, removed) => {
        const index = at % (good.length + 1);
        const mutated = good.slice(0, index) + character + good.slice(index + removed);
        fc.pre(mutated.trim() !== good);
        expect(await admitted(mutated)).toBe(401);
      }),
      { numRuns: 400 },
    );
  });

  const part = fc.oneof(
    fc.jsonValue().map((value) => Buffer.from(JSON.stringify(value)).toString('base64url')),
    fc
      .record(
        {
          alg: fc.constantFrom('HS256', 'none', 'dir'),
          crit: fc.jsonValue(),
          b64: fc.boolean(),
          kid: fc.jsonValue(),
        },
        { requiredKeys: [] },
      )
      .map((value) => Buffer.from(JSON.stringify(value)).toString('base64url')),
    fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes).toString('base64url')),
    fc.base64String(),
  );
  const headerText = fc.string({
    unit: fc
      .integer({ min: 0x21, max: 0xff })
      .filter((code) => code < 0x7f || code > 0x9f)
      .map((code) => String.fromCharCode(code)),
    maxLength: 100,
  });
  const credential = fc.oneof(
    headerText,
    fc.array(part, { minLength: 1, maxLength: 5 }).map((parts) => parts.join('.')),
  );

  test('nothing random gets in, wherever it stands, and none is an error of ours', async () => {
    await fc.assert(
      fc.asyncProperty(
        credential,
        fc.constantFrom('bearer', 'ticket', 'cookie', 'raw', 'raw cookie'),
        async (text, where) => {
          const shown: Shown =
            where === 'bearer'
              ? { bearer: text }
              : where === 'ticket'
                ? { ticket: text }
                : where === 'cookie'
                  ? { cookie: `sluice_token=${text}` }
                  : { headers: { [where === 'raw' ? 'authorization' : 'cookie']: text } };
          expect(await statusOf(shown)).toBe(401);
        },
      ),
      { numRuns: 600 },
    );
  });
});

describe('issuing', () => {
  const streams = ['orders'];
  test.each<[string, object, typeof Error]>([
    ['no streams', { streams: [], ...minute }, TypeError],
    ['streams that are no list', { streams: 'orders', ...minute }, TypeError],
    ['a stream that is no name', { streams: ['a\nb'], ...minute }, RangeError],
    ['no expiry', { streams }, RangeError],
    ['an expiry of nothing', { streams, expiresInMs: 0 }, RangeError],
    ['more than 30 days', { streams, expiresInMs: 30 * 86_400_000 + 1 }, RangeError],
    ['no actions', { streams, actions: [], ...minute }, TypeError],
    ['an unknown action', { streams, actions: ['write'], ...minute }, TypeError],
    ['an empty principal', { streams, principal: '', ...minute }, TypeError],
    ['an empty id', { streams, id: '', ...minute }, TypeError],
    ['a context without JSON', { streams, context: () => {}, ...minute }, TypeError],
    ['more than a header takes', { streams, context: 'x'.repeat(6000), ...minute }, RangeError],
  ])('%s is refused', async (_, request, error) => {
    await expect(tokens.issue(request as Parameters<Tokens['issue']>[0])).rejects.toThrow(error);
  });

  test('a ticket for longer than ten minutes is refused', async () => {
    await expect(tokens.ticket({ streams, expiresInMs: 600_001 })).rejects.toThrow(/expiresInMs is 600001/);
    await expect(tokens.ticket({ streams, connectionMs: 0 })).rejects.toThrow(/connectionMs is 0/);
  });

  test('a cookie or an issuer that can be none is refused', () => {
    for (const cookie of ['', 'a b', 'a=b', 7]) {
      expect(() => createTokens({ secret, cookie: cookie as string })).toThrow(/cookie/);
    }
    expect(() => createTokens({ secret, issuer: '' })).toThrow(TypeError);
  });
});
