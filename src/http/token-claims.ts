// What a capability token says: which streams, what may be done, by whom, until when; and whether that covers a
// request. Pure. Whatever is not exactly what we write means nothing.
import { streamNameProblem } from '../protocol/wire.ts';
import type { Action } from './authorize.ts';
import { isPresenceGrant, type PresenceGrant } from './presence-request.ts';

/** An access token goes into a header or a cookie; a ticket into a query, and only for a moment. */
export type Purpose = 'access' | 'ticket';

/** No token lives longer, so nothing has to remember for longer that one was revoked. */
export const MAX_TOKEN_MS: number = 30 * 86_400_000;
/** Queries end up in logs. */
export const MAX_TICKET_MS = 600_000;

/** A machine's clock may be ahead of this one's by so much. */
const CLOCK_SKEW_MS = 60_000;

export interface Capability {
  /** Of the token. */
  readonly id: string;
  readonly principal: string | null;
  /** Names, and prefixes that end in `*`. */
  readonly streams: readonly string[];
  readonly actions: readonly Action[];
  readonly context: unknown;
  /** Who its holder is in the presence of these streams; undefined: it has no part in it. */
  readonly presence: PresenceGrant | undefined;
  readonly issuedAt: Date;
  /** It opens nothing from then on. */
  readonly expiresAt: Date;
  /** What it has opened ends then; other than `expiresAt` for tickets alone. */
  readonly until: Date;
}

/** The claims of a token, to be signed. */
export const toClaims = (capability: Capability): Record<string, unknown> => ({
  jti: capability.id,
  ...(capability.principal === null ? {} : { sub: capability.principal }),
  streams: capability.streams,
  actions: capability.actions,
  ...(capability.context === undefined ? {} : { context: capability.context }),
  ...(capability.presence === undefined ? {} : { presence: capability.presence }),
  iat: capability.issuedAt.getTime() / 1000,
  exp: capability.expiresAt.getTime() / 1000,
  ...(capability.until.getTime() === capability.expiresAt.getTime()
    ? {}
    : { until: capability.until.getTime() / 1000 }),
});

/** What authentic claims say. Others may hold the secret and sign, so nothing of them is taken for granted. */
export function fromClaims(
  claims: Readonly<Record<string, unknown>>,
  purpose: Purpose,
  nowMs: number,
): Capability | 'expired' | 'invalid' {
  const { jti: id, sub = null, streams, actions, context, presence, iat, exp, until = exp } = claims;
  const [issuedAt, expiresAt, untilAt] = [toDate(iat), toDate(exp), toDate(until)];
  const valid =
    isText(id) &&
    (sub === null || isText(sub)) &&
    isList(streams, (each) => patternProblem(each) === undefined) &&
    isList(actions, (each) => ACTIONS.has(each)) &&
    (presence === undefined || isPresenceGrant(presence)) &&
    issuedAt !== undefined &&
    expiresAt !== undefined &&
    untilAt !== undefined;
  if (!valid) return 'invalid';
  const issuedMs = issuedAt.getTime();
  const livesMs = expiresAt.getTime() - issuedMs;
  if (
    issuedMs > nowMs + CLOCK_SKEW_MS ||
    livesMs > (purpose === 'ticket' ? MAX_TICKET_MS : MAX_TOKEN_MS) ||
    untilAt.getTime() - issuedMs > MAX_TOKEN_MS ||
    (purpose === 'access' && untilAt.getTime() !== expiresAt.getTime())
  ) {
    return 'invalid';
  }
  if (expiresAt.getTime() <= nowMs || untilAt.getTime() <= nowMs) return 'expired';
  return {
    id,
    principal: sub,
    streams: streams as string[],
    actions: actions as Action[],
    context,
    presence,
    issuedAt,
    expiresAt,
    until: untilAt,
  };
}

const ACTIONS: ReadonlySet<unknown> = new Set<Action>(['read', 'append', 'manage']);

export const isAction = (value: unknown): value is Action => ACTIONS.has(value);

/** What is wrong with a name or a prefix that ends in `*`; undefined if nothing is. */
export const patternProblem = (pattern: unknown): string | undefined =>
  pattern === '*' ? undefined : streamNameProblem(pattern);

/** Whether one of the patterns is the name, or a prefix of it. */
export const covers = (patterns: readonly string[], name: string): boolean =>
  patterns.some((pattern) =>
    pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : pattern === name,
  );

const isText = (value: unknown): value is string => typeof value === 'string' && value !== '';

const isList = (value: unknown, fits: (each: unknown) => boolean): boolean =>
  Array.isArray(value) && value.length > 0 && value.every(fits);

function toDate(seconds: unknown): Date | undefined {
  if (typeof seconds !== 'number') return undefined;
  const date = new Date(Math.round(seconds * 1000));
  return Number.isNaN(date.getTime()) ? undefined : date;
}
