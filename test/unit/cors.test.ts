// Guards the Origin rules: no page of an origin that is not named gets anything done in a visitor's name, or reads an
// answer; and what is allowed is allowed to exactly that origin.
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  corsRules,
  isCrossOrigin,
  judgeOrigin,
  type CorsOptions,
  type Verdict,
} from '../../src/http/cors.ts';

const own = 'http://streams.example/v1/events?stream=orders';
const shop = 'https://shop.example';

const judge = (headers: Record<string, string>, cors?: CorsOptions, url = own, method = 'GET'): Verdict =>
  judgeOrigin({ method, url, headers: new Headers(headers) }, corsRules(cors));

const origin = fc.constantFrom(
  shop,
  'https://streams.example',
  'http://streams.example',
  'https://evil.example',
  'https://shop.example.evil.example',
  'http://shop.example',
  'https://shop.example:444',
  'null',
  'HTTPS://SHOP.EXAMPLE',
  'https://shop.example/',
  '',
);
const site = fc.constantFrom('same-origin', 'none', 'same-site', 'cross-site', 'novel', undefined);
const request = fc.record({
  url: fc.constantFrom(own, `${own}&ticket=t`, 'https://streams.example/v1/events'),
  method: fc.constantFrom('GET', 'OPTIONS', 'POST'),
  headers: fc
    .record({
      origin: fc.option(origin, { nil: undefined }),
      'sec-fetch-site': site,
      cookie: fc.constantFrom(undefined, 'sluice_token=t'),
      authorization: fc.constantFrom(undefined, 'Bearer t'),
      'access-control-request-method': fc.constantFrom(undefined, 'GET'),
    })
    .map(
      (fields) =>
        new Headers(
          Object.entries(fields).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
        ),
    ),
});
const isForAll = (cors: CorsOptions | undefined): boolean =>
  Array.isArray(cors?.origins) && cors.origins.includes('*');
const rules = fc.constantFrom<CorsOptions | undefined>(
  undefined,
  { origins: [] },
  { origins: [shop] },
  { origins: [shop], credentials: true },
  { origins: (asked) => asked === shop, credentials: true },
  { origins: ['*'] },
);

describe('whatever is asked', () => {
  test('a page may read only if its origin is named, and with cookies only if that is said', () => {
    fc.assert(
      fc.property(request, rules, (asked, cors) => {
        const { headers } = judgeOrigin(asked, corsRules(cors));
        const allowed = headers['access-control-allow-origin'];
        if (cors === undefined) expect(Object.keys(headers)).toEqual(headers['vary'] ? ['vary'] : []);
        else expect(headers['vary']).toBe('Origin');
        expect([undefined, isForAll(cors) ? '*' : shop]).toContain(allowed);
        if (allowed === shop) expect(asked.headers.get('origin')).toBe(shop);
        const credentials = headers['access-control-allow-credentials'];
        if (credentials !== undefined)
          expect([credentials, cors?.credentials, allowed]).toEqual(['true', true, shop]);
      }),
    );
  });

  test('across origins nothing that says who asks passes, unless the origin is named', () => {
    fc.assert(
      fc.property(request, rules, (asked, cors) => {
        const { kind } = judgeOrigin(asked, corsRules(cors));
        if (kind !== 'pass' || !isCrossOrigin(asked)) return;
        const named = asked.headers.get('origin') === shop || isForAll(cors);
        if (asked.headers.has('cookie')) expect([cors?.credentials, named]).toEqual([true, true]);
        if (asked.headers.has('authorization') || asked.url.includes('ticket')) {
          expect(cors).toBeDefined();
          expect(asked.headers.has('origin') && named).toBe(true);
        }
      }),
    );
  });

  test('what a browser calls cross-site is so, whatever the other headers say', () => {
    fc.assert(
      fc.property(request, (asked) => {
        const said = asked.headers.get('sec-fetch-site');
        if (said !== null) expect(isCrossOrigin(asked)).toBe(!['same-origin', 'none'].includes(said));
      }),
    );
  });
});

describe('one by one', () => {
  test.each<[string, Record<string, string>, CorsOptions | undefined, Verdict['kind']]>([
    ['a program with a token', { authorization: 'Bearer t' }, undefined, 'pass'],
    ['a program with cookies', { cookie: 'a=b' }, undefined, 'pass'],
    ['a page of ours with cookies', { cookie: 'a=b', 'sec-fetch-site': 'same-origin' }, undefined, 'pass'],
    [
      'one behind TLS that ends before us',
      { cookie: 'a=b', origin: 'https://streams.example' },
      undefined,
      'pass',
    ],
    ['another site with cookies', { cookie: 'a=b', origin: shop }, undefined, 'refuse'],
    ['a sandboxed page with cookies', { cookie: 'a=b', origin: 'null' }, undefined, 'refuse'],
    [
      'an image of another site, with cookies',
      { cookie: 'a=b', 'sec-fetch-site': 'cross-site' },
      undefined,
      'refuse',
    ],
    ['a sibling with cookies', { cookie: 'a=b', 'sec-fetch-site': 'same-site' }, undefined, 'refuse'],
    ['another site with nothing', { origin: shop }, undefined, 'pass'],
    ['a named one with a token', { origin: shop, authorization: 'Bearer t' }, { origins: [shop] }, 'pass'],
    [
      'a named one with cookies nobody allowed',
      { origin: shop, cookie: 'a=b' },
      { origins: [shop] },
      'refuse',
    ],
    [
      'a named one with cookies',
      { origin: shop, cookie: 'a=b' },
      { origins: [shop], credentials: true },
      'pass',
    ],
    [
      'any with a token',
      { origin: 'https://a.example', authorization: 'Bearer t' },
      { origins: ['*'] },
      'pass',
    ],
  ])('%s: %4$s', (_, headers, cors, kind) => {
    expect(judge(headers, cors).kind).toBe(kind);
  });

  test('a plain http page is not of the origin of an https address', () => {
    const secure = own.replace('http:', 'https:');
    const headers = { cookie: 'a=b', origin: 'http://streams.example' };
    expect(judge(headers, undefined, secure).kind).toBe('refuse');
    expect(judge({ ...headers, origin: 'https://streams.example' }, undefined, secure).kind).toBe('pass');
  });

  test('a preflight is answered to a named origin, refused to others, and no concern of ours without rules', () => {
    const headers = { origin: shop, 'access-control-request-method': 'GET' };
    expect(judge(headers, { origins: [shop], maxAgeMs: 90_500 }, own, 'OPTIONS')).toEqual({
      kind: 'preflight',
      headers: {
        'access-control-allow-origin': shop,
        'access-control-allow-methods': 'GET, HEAD',
        'access-control-allow-headers': 'Authorization, Last-Event-ID, Cache-Control, Content-Type',
        'access-control-max-age': '90',
        vary: 'Origin',
      },
    });
    expect(judge(headers, { origins: [] }, own, 'OPTIONS').kind).toBe('refuse');
    expect(judge(headers, undefined, own, 'OPTIONS').kind).toBe('pass');
  });
});

describe('options', () => {
  test.each([
    'https://shop.example/',
    'shop.example',
    'https://Shop.example',
    'null',
    '',
    'https://shop.example:443',
    7,
  ])('origins [%j] is refused: no browser sends it', (wrong) => {
    expect(() => corsRules({ origins: [wrong as string] })).toThrow(/cors\.origins has .* no browser sends/);
  });

  test('what makes no sense is refused', () => {
    const options =
      (cors: object): (() => unknown) =>
      () =>
        corsRules(cors as CorsOptions);
    expect(options({ origins: ['*'], credentials: true })).toThrow(/any page use cookies/);
    expect(options({ origins: '*' })).toThrow(TypeError);
    expect(options({})).toThrow(TypeError);
    expect(options({ origins: [], credentials: 'yes' })).toThrow(TypeError);
    for (const maxAgeMs of [-1, Number.NaN, 86_400_001, '1']) {
      expect(options({ origins: [], maxAgeMs })).toThrow(RangeError);
    }
  });

  test('a function that answers with a promise allows nothing', () => {
    const origins = (async () => true) as unknown as () => boolean;
    expect(() => judge({ origin: shop }, { origins })).toThrow(/true or false at once/);
  });
});
