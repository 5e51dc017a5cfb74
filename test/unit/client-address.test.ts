// Guards whose address a request counts for: whatever a client writes into X-Forwarded-For, it cannot take the place of
// what trusted proxies have appended, and one address has one spelling.
import { isIP } from 'node:net';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  clientAddress,
  networkOf,
  parseAddress,
  trustOf,
  type TrustProxy,
} from '../../src/http/client-address.ts';

const address = (
  forwarded: string | undefined,
  remote: string | undefined,
  trust?: TrustProxy,
): string | undefined =>
  clientAddress(
    { headers: new Headers(forwarded === undefined ? {} : { 'x-forwarded-for': forwarded }) },
    remote,
    trustOf(trust),
  );

describe('how far the header is believed', () => {
  test.each<[string, string | undefined, string, TrustProxy | undefined, string]>([
    ['not at all by default', '6.6.6.6', '10.0.0.1', undefined, '10.0.0.1'],
    ['not at all with no proxy', '6.6.6.6', '10.0.0.1', 0, '10.0.0.1'],
    ['what one proxy appended', '6.6.6.6, 1.2.3.4', '10.0.0.1', 1, '1.2.3.4'],
    ['what two appended', '6.6.6.6, 1.2.3.4, 10.0.0.2', '10.0.0.1', 2, '1.2.3.4'],
    ['all there is, if there were fewer', '1.2.3.4', '10.0.0.1', 5, '1.2.3.4'],
    ['the proxy, if it says nothing', undefined, '10.0.0.1', 1, '10.0.0.1'],
    ['the proxy, if what it says is no address', '1.2.3.4, unknown', '10.0.0.1', 2, '10.0.0.1'],
    ['nothing beyond what is no address', '6.6.6.6, , 1.2.3.4', '10.0.0.1', 3, '1.2.3.4'],
    ['from proxies by address', '6.6.6.6, 1.2.3.4, 10.9.9.9', '10.0.0.1', ['10.0.0.0/8'], '1.2.3.4'],
    ['not from others', '6.6.6.6', '11.0.0.1', ['10.0.0.0/8'], '11.0.0.1'],
    ['from one by IPv6', '2001:DB8::1', '::1', ['::1'], '2001:db8::1'],
    ['from one by IPv4 on a socket of both', '1.2.3.4', '::ffff:10.0.0.1', ['10.0.0.1'], '1.2.3.4'],
    ['without ports', '[2001:db8::1]:443, 1.2.3.4:5678', '10.0.0.1', 2, '2001:db8::1'],
  ])('%s', (...[, forwarded, remote, trust, expected]) => {
    expect(address(forwarded, remote, trust)).toBe(expected);
  });

  test('nobody, where the host does not say who connected', () => {
    for (const trust of [undefined, 1, ['0.0.0.0/0']])
      expect(address('1.2.3.4', undefined, trust)).toBe(undefined);
  });

  test.each([
    -1,
    1.5,
    Number.NaN,
    101,
    Number.POSITIVE_INFINITY,
    ['10.0.0.0/33'],
    ['::/129'],
    ['proxy'],
    [''],
    [7],
  ])('trustProxy %j is refused', (trust) => {
    expect(() => trustOf(trust as TrustProxy)).toThrow(/trustProxy/);
  });
  test.each([true, 'loopback', {}, null])('trustProxy %j is refused as a type', (trust) => {
    expect(() => trustOf(trust as unknown as TrustProxy)).toThrow(TypeError);
  });
});

const ip = fc.oneof(fc.ipV4(), fc.ipV6());
const anything = fc.string({ unit: fc.constantFrom(...Array.from('0123456789abcdef.:[]%, unknow/-\t"')) });

test('what a client writes never counts: only what stands right of it', () => {
  fc.assert(
    fc.property(anything, fc.array(ip, { minLength: 1, maxLength: 4 }), ip, (forged, appended, remote) => {
      const expected = parseAddress(appended[0]!);
      expect(address(`${forged}, ${appended.join(', ')}`, remote, appended.length)).toBe(expected);
    }),
  );
});

test('the answer is always an address in its one spelling', () => {
  fc.assert(
    fc.property(anything, ip, fc.nat(5), (forwarded, remote, hops) => {
      const found = address(forwarded, remote, hops)!;
      expect(isIP(found)).not.toBe(0);
      expect(parseAddress(found)).toBe(found);
    }),
  );
});

test('IPv6 in any spelling is one address', () => {
  for (const spelling of ['2001:0DB8::0001', '2001:db8:0:0:0:0:0:1', '[2001:db8::1]', ' 2001:db8::1%eth0']) {
    expect(parseAddress(spelling)).toBe('2001:db8::1');
  }
  expect(parseAddress('::ffff:1.2.3.4')).toBe('1.2.3.4');
  expect(parseAddress('::ffff:ff02:3fe')).toBe('255.2.3.254');
});

describe('what counts as one', () => {
  test.each([
    ['1.2.3.4', '1.2.3.4'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:db8:1:2::1', '2001:db8:1:2::/64'],
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['2001:db8:0:1::', '2001:db8:0:1::/64'],
    ['::1', '0:0:0:0::/64'],
    ['::', '0:0:0:0::/64'],
    ['::5:6:7:8:9', '0:0:0:5::/64'],
  ])('%s is of %s', (given, network) => {
    expect(networkOf(given)).toBe(network);
  });

  test('however it is written, an address is of its first 64 bits', () => {
    const group = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffff }));
    fc.assert(
      fc.property(fc.array(group, { minLength: 8, maxLength: 8 }), (groups) => {
        const text = groups.map((each) => each.toString(16)).join(':');
        const normal = parseAddress(text) ?? '';
        const expected = normal.includes('.') ? normal : `${text.split(':').slice(0, 4).join(':')}::/64`;
        expect(networkOf(normal)).toBe(expected);
      }),
    );
  });
});
