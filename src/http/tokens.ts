// Capability tokens: signed permissions to read streams, that expire. JSON Web Tokens (RFC 7519; HS256), typed and bound to
// a purpose so that nothing else signed with the same secret passes for one (RFC 8725). Verifying asks nobody; what was
// issued can be revoked through the handler. Never says why a token is refused, but for one that was good and is old.
import { randomUUID } from 'node:crypto';
import { errors, jwtVerify, SignJWT } from 'jose';
import { within } from '../util/bounds.ts';
import { wallClockMs } from '../util/clock.ts';
import type { Action, Authorize, Grant } from './authorize.ts';
import { credentialOf } from './credentials.ts';
import { isPresenceGrant, PRESENCE_ID_RULE, type PresenceGrant } from './presence-request.ts';
import { streamNotFound, unauthorized } from './problem.ts';
import {
  covers,
  fromClaims,
  isAction,
  MAX_TICKET_MS,
  MAX_TOKEN_MS,
  patternProblem,
  toClaims,
  type Capability,
  type Purpose,
} from './token-claims.ts';
import { tokenKeys, type TokenKey, type TokenKeys } from './token-keys.ts';

export interface TokensOptions {
  /**
   * What signs: at least 32 bytes, from a random source. Of several the first signs and all verify. Whoever knows it can
   * read everything.
   */
  readonly secret: string | readonly string[];
  /** Put into each token and demanded of each: tells deployments apart that share a secret. */
  readonly issuer?: string | undefined;
  /** The cookie that may carry a token; true: `sluice_token`. Default: none. */
  readonly cookie?: boolean | string | undefined;
}

export interface PresenceRequest {
  /** Default: the principal. Null: sees who is there, and is not seen. */
  readonly id?: string | null | undefined;
  /** What the others see of it: any JSON. Default: what the client says. */
  readonly state?: unknown;
}

export interface CapabilityRequest {
  /** Who it is for, as `Grant.principal`. Default: null, anybody who holds it. */
  readonly principal?: string | null | undefined;
  /** Names of streams, and prefixes that end in `*`. Never pass on a name from elsewhere that ends in one. */
  readonly streams: readonly string[];
  /** Default: `['read']`. */
  readonly actions?: readonly Action[] | undefined;
  /** `Grant.context`: any JSON. Whoever holds the token can read it. */
  readonly context?: unknown;
  /** Lets its holder take part in the presence of these streams; true: under the principal. Default: it may not. */
  readonly presence?: boolean | PresenceRequest | undefined;
  /** What it is revoked by. Default: a random one. */
  readonly id?: string | undefined;
}

export interface TokenRequest extends CapabilityRequest {
  /** In milliseconds, at most 30 days. Connections opened with it end then. */
  readonly expiresInMs: number;
}

export interface TicketRequest extends CapabilityRequest {
  /** How long it opens connections, in milliseconds, at most ten minutes. Default 60 000. */
  readonly expiresInMs?: number | undefined;
  /** Connections opened with it end so long after it was issued, in milliseconds, at most 30 days. Default one hour. */
  readonly connectionMs?: number | undefined;
}

export interface Tokens {
  /** A token for `Authorization: Bearer` or the cookie. @throws TypeError, RangeError */
  issue(request: TokenRequest): Promise<string>;
  /** A token for `?ticket=`, where no header can be set: a stock EventSource. @throws TypeError, RangeError */
  ticket(request: TicketRequest): Promise<string>;
  /** The hook for `createHandler`: lets in who shows a token that covers all streams asked for. */
  readonly authorize: Authorize;
}

const TYPE = 'sluice+jwt';
const AUDIENCES: Readonly<Record<Purpose, string>> = { access: 'sluice:access', ticket: 'sluice:ticket' };
const MAX_TOKEN_CHARACTERS = 6000; // a request's headers may have 16 KiB together, and there are others
const TICKET_MS = 60_000;
const CONNECTION_MS = 3_600_000;
// Three parts, the last the 32 bytes of a signature in their one spelling: a token cannot be written in two ways.
const SHAPE = /^[\w-]+\.[\w-]+\.[\w-]{42}[AEIMQUYcgkosw048]$/;
// RFC 6265, 4.1.1
const COOKIE_NAME = /^[\w!#$%&'*+.^`|~-]+$/;

/**
 * Capability tokens under a secret of yours.
 *
 * @throws TypeError, RangeError for a secret that is too short or can be guessed
 * @example
 * const tokens = createTokens({ secret: process.env.SLUICE_SECRET });
 * const handler = createHandler(sluice, { authorize: tokens.authorize });
 * const token = await tokens.issue({ principal: 'alice', streams: ['orders', 'user/alice/*'], expiresInMs: 3_600_000 });
 */
export function createTokens({ secret, issuer, cookie = false }: TokensOptions): Tokens {
  const keys = tokenKeys(secret);
  if (issuer !== undefined && (typeof issuer !== 'string' || issuer === '')) {
    throw new TypeError('issuer must be a string that is not empty');
  }
  const cookieName = cookieNameOf(cookie);
  return Object.freeze({
    issue: async ({ expiresInMs, ...request }: TokenRequest) => {
      const livesMs = Math.round(within('expiresInMs', expiresInMs, [1, MAX_TOKEN_MS]));
      return sign(capability(request, livesMs, livesMs), 'access', { keys, issuer });
    },
    ticket: async ({ expiresInMs = TICKET_MS, connectionMs = CONNECTION_MS, ...request }: TicketRequest) => {
      const livesMs = Math.round(within('expiresInMs', expiresInMs, [1, MAX_TICKET_MS]));
      const lastsMs = Math.round(within('connectionMs', connectionMs, [1, MAX_TOKEN_MS]));
      return sign(capability(request, livesMs, lastsMs), 'ticket', { keys, issuer });
    },
    authorize: async (request: Request, streams: readonly string[], action: Action) => {
      const credential = credentialOf(request, cookieName);
      if (!credential) return unauthorized('show a token: Authorization: Bearer …, or ?ticket=…');
      const shown = await verify(credential.token, credential.purpose, { keys, issuer });
      if (shown === 'invalid') return unauthorized('the token is not valid here; get a new one', true);
      if (shown === 'expired') return unauthorized('the token has expired; get a new one', true);
      return decide(shown, streams, action);
    },
  });
}

/** What is not covered is answered as what does not exist, without looking whether it does. */
function decide(shown: Capability, streams: readonly string[], action: Action): Grant | Response {
  const hidden = streams.find((name) => !shown.actions.includes(action) || !covers(shown.streams, name));
  if (hidden !== undefined || streams.length === 0) return streamNotFound(hidden ?? '');
  const { id, principal, context, presence, issuedAt, until } = shown;
  return { id, principal, context, presence, issuedAt, expiresAt: until };
}

interface Signing {
  readonly keys: TokenKeys;
  readonly issuer: string | undefined;
}

async function sign(capability: Capability, purpose: Purpose, { keys, issuer }: Signing): Promise<string> {
  const claims = toClaims(capability);
  const token = await new SignJWT(issuer === undefined ? claims : { ...claims, iss: issuer })
    .setProtectedHeader({ alg: 'HS256', typ: TYPE, kid: keys.signing.id })
    .setAudience(AUDIENCES[purpose])
    .sign(await keys.signing.key);
  if (token.length <= MAX_TOKEN_CHARACTERS) return token;
  throw new RangeError(
    `the token would have ${token.length} characters, and ${MAX_TOKEN_CHARACTERS} fit into a header beside others; name fewer streams, or a prefix, or keep the context elsewhere`,
  );
}

async function verify(
  token: string,
  purpose: Purpose,
  { keys, issuer }: Signing,
): Promise<Capability | 'expired' | 'invalid'> {
  if (token.length > MAX_TOKEN_CHARACTERS || !SHAPE.test(token)) return 'invalid';
  const nowMs = wallClockMs();
  try {
    const { payload } = await jwtVerify(token, ({ kid }) => keyFor(keys, kid), {
      algorithms: ['HS256'],
      typ: TYPE,
      audience: AUDIENCES[purpose],
      requiredClaims: ['exp', 'iat', 'jti'],
      currentDate: new Date(nowMs),
    });
    // One from elsewhere is refused too where no issuer is named.
    return payload.iss === issuer ? fromClaims(payload, purpose, nowMs) : 'invalid';
  } catch (error) {
    if (error instanceof errors.JWTExpired) return 'expired';
    if (error instanceof errors.JOSEError) return 'invalid';
    throw error;
  }
}

function keyFor(keys: TokenKeys, id: unknown): TokenKey['key'] {
  const found = keys.find(id);
  if (!found) throw new errors.JWKSNoMatchingKey();
  return found.key;
}

function capability(request: CapabilityRequest, livesMs: number, lastsMs: number): Capability {
  const { principal = null, streams, actions = ['read'], context, id = randomUUID() } = request;
  if (principal !== null) requireText('principal', principal);
  requireText('id', id);
  if (!Array.isArray(streams) || streams.length === 0) throw new TypeError('streams must be a list of names');
  for (const pattern of streams) {
    const problem = patternProblem(pattern);
    if (problem !== undefined) throw new RangeError(problem);
  }
  if (!Array.isArray(actions) || actions.length === 0 || !actions.every(isAction)) {
    throw new TypeError('actions must be a list of read, append and manage');
  }
  const now = wallClockMs();
  return {
    id,
    principal,
    streams,
    actions,
    context: json('context', context),
    presence: presenceGrant(request.presence, principal),
    issuedAt: new Date(now),
    expiresAt: new Date(now + livesMs),
    until: new Date(now + lastsMs),
  };
}

function requireText(name: string, value: unknown): void {
  if (typeof value !== 'string' || value === '') {
    throw new TypeError(`${name} must be a string that is not empty`);
  }
}

function presenceGrant(
  presence: CapabilityRequest['presence'] = false,
  principal: string | null,
): PresenceGrant | undefined {
  if (presence === false) return undefined;
  const asked: unknown = presence;
  if (asked !== true && (typeof asked !== 'object' || asked === null)) {
    throw new TypeError('presence must be true, or { id?, state? }');
  }
  const { id = principal ?? undefined, state }: PresenceRequest = presence === true ? {} : presence;
  if (id === undefined) {
    throw new TypeError('presence needs who its holder is: give a principal, or presence: { id }');
  }
  const grant = { id, ...(state === undefined ? {} : { state: json('presence.state', state) }) };
  if (isPresenceGrant(grant)) return grant;
  throw new RangeError(`presence has the id ${JSON.stringify(id)}; ${PRESENCE_ID_RULE}`);
}

function json(name: string, value: unknown): unknown {
  if (value === undefined) return undefined;
  const text = JSON.stringify(value) as string | undefined;
  if (text === undefined) throw new TypeError(`${name} has no JSON form`);
  return JSON.parse(text);
}

function cookieNameOf(cookie: boolean | string): string | undefined {
  if (cookie === false) return undefined;
  if (cookie === true) return 'sluice_token';
  if (typeof cookie === 'string' && COOKIE_NAME.test(cookie)) return cookie;
  throw new TypeError(
    `cookie is ${JSON.stringify(cookie)}; give the name of a cookie, or true for sluice_token`,
  );
}
