// The address a request comes from, when proxies stand before us: how much of X-Forwarded-For is believed. Anybody can
// send that header; only what a trusted proxy has appended to it is true, so it is read from the right and no further
// than trust goes. Pure. `Forwarded` (RFC 7239) is not read: a proxy that writes the one header lets a client's other
// one through.
import { BlockList, isIP } from 'node:net';

/**
 * How many proxies stand before this server, each of which appends the address it was asked from; or the addresses and
 * networks of such proxies: `['10.0.0.0/8', '::1']`.
 */
export type TrustProxy = number | readonly string[];

/** Whether the peer at this address, so many hops away (0: who connected), is a proxy of ours. */
export type Trust = (address: string, hop: number) => boolean;

/** @throws TypeError, RangeError */
export function trustOf(trustProxy: TrustProxy | undefined): Trust {
  if (trustProxy === undefined) return () => false;
  if (typeof trustProxy === 'number') {
    if (!Number.isInteger(trustProxy) || trustProxy < 0 || trustProxy > 100) {
      throw new RangeError(`trustProxy is ${trustProxy}; give the number of proxies, from 0 to 100`);
    }
    return (_, hop) => hop < trustProxy;
  }
  if (!Array.isArray(trustProxy)) {
    throw new TypeError('trustProxy must be the number of proxies, or a list of their addresses');
  }
  const proxies = new BlockList();
  for (const entry of trustProxy) addTo(proxies, entry);
  return (address) => proxies.check(address, family(address));
}

const family = (address: string): 'ipv6' | 'ipv4' => (address.includes(':') ? 'ipv6' : 'ipv4');

function addTo(proxies: BlockList, entry: unknown): void {
  const [, network = '', bits] =
    typeof entry === 'string' ? (/^([^/]+)(?:\/(\d{1,3}))?$/.exec(entry) ?? []) : [];
  const width = { 0: -1, 4: 32, 6: 128 }[isIP(network)] ?? -1;
  const prefix = bits === undefined ? width : Number(bits);
  if (prefix > width || width === -1) {
    throw new RangeError(
      `trustProxy has ${JSON.stringify(entry)}; give addresses and networks such as 10.0.0.0/8 or ::1`,
    );
  }
  proxies.addSubnet(network, prefix, width === 32 ? 'ipv4' : 'ipv6');
}

/**
 * The client's address as far as it can be believed, without port, IPv4 where it is one; undefined if the host does not
 * say who connected. Behind a trusted proxy that does not say where it was asked from, that proxy's own.
 */
export function clientAddress(
  { headers }: Pick<Request, 'headers'>,
  remoteAddress: string | undefined,
  trust: Trust,
): string | undefined {
  let address = remoteAddress === undefined ? undefined : parseAddress(remoteAddress);
  if (address === undefined) return undefined;
  const forwarded = (headers.get('x-forwarded-for') ?? '').split(',');
  for (let hop = 0; hop < forwarded.length && trust(address, hop); hop += 1) {
    const next = parseAddress(forwarded[forwarded.length - 1 - hop] ?? '');
    if (next === undefined) break;
    address = next;
  }
  return address;
}

const BRACKETED = /^\[([^\]]+)\](?::\d+)?$/;
const WITH_PORT = /^([^:]+):\d+$/;

/** One spelling per address, so that caps count it once; undefined for what is none. */
export function parseAddress(text: string): string | undefined {
  const trimmed = text.trim();
  const bare = BRACKETED.exec(trimmed)?.[1] ?? WITH_PORT.exec(trimmed)?.[1] ?? trimmed;
  const address = bare.replace(/%.*$/, '');
  switch (isIP(address)) {
    case 4:
      return address;
    case 6:
      return unmapped(new URL(`http://[${address}]`).hostname.slice(1, -1));
    default:
      return undefined;
  }
}

/** What counts as one: an IPv4 address, or of IPv6 the /64 in which one host can take any. */
export function networkOf(address: string): string {
  if (!address.includes(':')) return address;
  const [left = [], right = []] = address.split('::').map((part) => (part === '' ? [] : part.split(':')));
  const zeros = Array.from({ length: 8 - left.length - right.length }, () => '0');
  return `${[...left, ...zeros, ...right].slice(0, 4).join(':')}::/64`;
}

/** IPv4 as a socket for both versions shows it: `::ffff:102:304`. */
function unmapped(address: string): string {
  const [, high, low] = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(address) ?? [];
  if (high === undefined || low === undefined) return address;
  const number = (Number.parseInt(high, 16) << 16) | Number.parseInt(low, 16);
  return [24, 16, 8, 0].map((shift) => (number >>> shift) & 255).join('.');
}
