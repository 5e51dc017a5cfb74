// Which pages may ask: the Origin rules of the handler, decided before anything else is done. Without rules no CORS header
// is sent, and what a browser adds by itself (cookies) counts only for pages of the same origin. Pure. The protocol: the
// Fetch standard, "CORS protocol", and W3C Fetch Metadata for Sec-Fetch-Site.
import { within } from '../util/bounds.ts';
import { shown } from '../util/shown.ts';

export interface CorsOptions {
  /** Origins as browsers write them (`https://shop.example`), or `['*']` for all; or a function that knows. */
  readonly origins: readonly string[] | ((origin: string) => boolean);
  /** Whether their pages may send cookies. Default false. Tokens in headers and tickets need no credentials. */
  readonly credentials?: boolean | undefined;
  /** How long browsers may remember the answer to a preflight, in milliseconds. Default 600 000. */
  readonly maxAgeMs?: number | undefined;
}

export interface CorsRules {
  readonly everyone: boolean;
  readonly allows: (origin: string) => boolean;
  readonly credentials: boolean;
  readonly maxAgeMs: number;
}

/** What the rules need of a request. */
export type Asked = Pick<Request, 'method' | 'url' | 'headers'>;

export type Verdict =
  /** Goes on; the headers belong on its response, whatever that is. */
  | { readonly kind: 'pass'; readonly headers: Readonly<Record<string, string>> }
  /** Answered with these headers alone. */
  | { readonly kind: 'preflight'; readonly headers: Readonly<Record<string, string>> }
  | {
      readonly kind: 'refuse';
      readonly detail: string;
      readonly headers: Readonly<Record<string, string>>;
    };

const MAX_AGE_MS = 600_000;

/** @throws TypeError, RangeError */
export function corsRules(options: CorsOptions | undefined): CorsRules | undefined {
  if (options === undefined) return undefined;
  const { origins, credentials = false, maxAgeMs = MAX_AGE_MS } = options;
  within('cors.maxAgeMs', maxAgeMs, [0, 86_400_000]);
  if (typeof credentials !== 'boolean') throw new TypeError('cors.credentials must be true or false');
  if (typeof origins === 'function')
    return { everyone: false, allows: certain(origins), credentials, maxAgeMs };
  if (!Array.isArray(origins)) throw new TypeError('cors.origins must be a list of origins, or a function');
  const everyone = origins.includes('*');
  if (everyone && credentials) {
    throw new RangeError('cors.origins has "*", which would let any page use cookies: name the origins');
  }
  const known = new Set<string>(origins);
  for (const origin of known) if (origin !== '*') requireOrigin(origin);
  return { everyone, allows: (origin) => everyone || known.has(origin), credentials, maxAgeMs };
}

/** A promise, as an async function would give, is not a yes. */
const certain =
  (allows: (origin: string) => unknown): ((origin: string) => boolean) =>
  (origin) => {
    const answer = allows(origin);
    if (typeof answer === 'boolean') return answer;
    throw new TypeError(`cors.origins(…) answered ${typeof answer}; answer true or false at once`);
  };

function requireOrigin(origin: unknown): void {
  const written = typeof origin === 'string' ? parsed(origin)?.origin : undefined;
  if (written !== undefined && written === origin && written !== 'null') return;
  const remedy =
    written === undefined || written === 'null' ? 'write it as https://shop.example' : `write ${written}`;
  throw new RangeError(`cors.origins has ${JSON.stringify(origin)}, which no browser sends; ${remedy}`);
}

const parsed = (url: string): URL | undefined => (URL.canParse(url) ? new URL(url) : undefined);

/** @throws whatever `origins` throws */
export function judgeOrigin(asked: Asked, rules: CorsRules | undefined): Verdict {
  const { method, headers } = asked;
  const origin = headers.get('origin');
  const allowed = origin !== null && rules !== undefined && rules.allows(origin);
  const vary = { vary: 'Origin' };
  if (rules && origin !== null && method === 'OPTIONS' && headers.has('access-control-request-method')) {
    return allowed
      ? { kind: 'preflight', headers: { ...grantTo(origin, rules), ...preflight(rules), ...vary } }
      : refuse(`pages of ${named(origin)} may not ask here`);
  }
  if (isCrossOrigin(asked)) {
    const carried = carriedBy(asked);
    if (!allowed && carried !== undefined) {
      return refuse(`pages of ${named(origin)} may not ask here with ${carried}`);
    }
    if (headers.has('cookie') && rules?.credentials !== true) {
      return refuse(`pages of ${named(origin)} may not ask here with cookies`);
    }
  }
  if (!rules) return { kind: 'pass', headers: {} };
  return { kind: 'pass', headers: allowed ? { ...grantTo(origin, rules), ...EXPOSED, ...vary } : vary };
}

const refuse = (detail: string): Verdict => ({ kind: 'refuse', detail, headers: { vary: 'Origin' } });

const named = (origin: string | null): string =>
  origin === null ? 'another origin' : `origin ${shown(origin)}`;

const grantTo = (origin: string, { everyone, credentials }: CorsRules): Record<string, string> => ({
  'access-control-allow-origin': everyone ? '*' : origin,
  ...(credentials ? { 'access-control-allow-credentials': 'true' } : {}),
});

const EXPOSED = { 'access-control-expose-headers': 'Retry-After, WWW-Authenticate' };

const preflight = ({ maxAgeMs }: CorsRules): Record<string, string> => ({
  'access-control-allow-methods': 'GET, HEAD',
  'access-control-allow-headers': 'Authorization, Last-Event-ID, Cache-Control, Content-Type',
  'access-control-max-age': String(Math.floor(maxAgeMs / 1000)),
});

/** What says who asks. */
function carriedBy({ headers, url }: Asked): string | undefined {
  if (headers.has('cookie')) return 'cookies';
  if (headers.has('authorization')) return 'an Authorization header';
  return new URL(url).searchParams.has('ticket') ? 'a ticket' : undefined;
}

/** Whether a page of another origin has sent this, as far as the browser says; programs say nothing. */
export function isCrossOrigin({ headers, url }: Asked): boolean {
  const site = headers.get('sec-fetch-site');
  if (site !== null) return site !== 'same-origin' && site !== 'none';
  // Older browsers, and addresses without TLS.
  const origin = headers.get('origin');
  return origin !== null && !isOwn(origin, new URL(url));
}

/** TLS may end before us, so an https page belongs to an http address of the same name; never the other way round. */
function isOwn(origin: string, own: URL): boolean {
  const theirs = parsed(origin);
  if (theirs?.origin !== origin || theirs.host !== own.host) return false;
  return theirs.protocol === own.protocol || (theirs.protocol === 'https:' && own.protocol === 'http:');
}
