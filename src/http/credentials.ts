// Where a request carries its token: the Authorization header, else `?ticket=`, else, if wanted, a cookie. What is found
// first is the only one looked at: a bad one is never made good by another. Pure.
import type { Purpose } from './token-claims.ts';

export interface Credential {
  readonly purpose: Purpose;
  /** As it was sent; not a token at all, perhaps. Empty when it cannot be told which of several is meant. */
  readonly token: string;
}

const BEARER = /^Bearer +(\S+)$/i;

/** @param cookieName the cookie that may carry a token; undefined: none may */
export function credentialOf(
  { headers, url }: Pick<Request, 'headers' | 'url'>,
  cookieName: string | undefined,
): Credential | undefined {
  const header = headers.get('authorization');
  if (header !== null) return { purpose: 'access', token: BEARER.exec(header)?.[1] ?? '' };
  const tickets = new URL(url).searchParams.getAll('ticket');
  if (tickets.length > 0) return { purpose: 'ticket', token: only(tickets) };
  const cookies = cookieName === undefined ? [] : cookiesOf(headers.get('cookie') ?? '', cookieName);
  return cookies.length > 0 ? { purpose: 'access', token: only(cookies) } : undefined;
}

const only = (values: readonly string[]): string => (values.length === 1 ? (values[0] ?? '') : '');

const cookiesOf = (header: string, name: string): string[] =>
  header
    .split(';')
    .map((pair) => pair.trim())
    .filter((pair) => pair.startsWith(`${name}=`))
    .map((pair) => pair.slice(name.length + 1));
