// The hook that decides who may read what. There is no default: a handler without one cannot be made.
import type { StreamEvent } from '../log/event.ts';
import { isAsync } from './audience.ts';
import { isPresenceGrant, type PresenceGrant } from './presence-request.ts';

export type Action = 'read' | 'append' | 'manage';

export interface Grant {
  /** Who it is, for logs and limits; null for anybody. */
  readonly principal: string | null;
  /** The connection is closed then. */
  readonly expiresAt?: Date | undefined;
  /** For your audiences. */
  readonly context?: unknown;
  /** Who it is to the others in its streams, if it asks for presence. Default: it may not. */
  readonly presence?: PresenceGrant | undefined;
  /**
   * Lets an event through, beside its label's audience; only `true` does. Called for each event and connection, replayed
   * and live alike: keep it cheap, and leave the event as it is, for others see the same one.
   */
  readonly visible?: ((event: StreamEvent) => boolean) | undefined;
  /** Of the token or session it comes from, to be revoked by. */
  readonly id?: string | undefined;
  /** When that was issued: what is revoked for a principal is what was issued before. Default: granted just now. */
  readonly issuedAt?: Date | undefined;
}

/** Decides on a request before anything else is done: a grant, or the response that refuses. */
export type Authorize = (
  request: Request,
  streams: readonly string[],
  action: Action,
) => Promise<Grant | Response>;

/**
 * Asks the hook. Whatever is neither a grant nor a Response opens nothing: `false`, a forgotten return, a Response of
 * another realm, or one that was sent before.
 *
 * @throws TypeError for such an answer, and whatever the hook throws
 */
export async function requestGrant(
  authorize: Authorize,
  request: Request,
  streams: readonly string[],
  action: Action,
): Promise<Grant | Response> {
  const answer: unknown = await authorize(request, streams, action);
  if (answer instanceof Response && (answer.bodyUsed || answer.body?.locked === true)) {
    throw new TypeError(
      'authorize answered with a Response that was sent before: make a new one for each request',
    );
  }
  if (answer instanceof Response || isGrant(answer)) return answer;
  throw new TypeError(
    'authorize must answer with a grant ({ principal, expiresAt?: Date, context?, visible?: (event) => boolean, presence?: { id, state? }, id?, issuedAt?: Date }) or with a Response of this realm',
  );
}

function isGrant(answer: unknown): answer is Grant {
  if (typeof answer !== 'object' || answer === null) return false;
  const { principal, expiresAt, visible, presence, id, issuedAt } = answer as Partial<
    Record<keyof Grant, unknown>
  >;
  return (
    (principal === null || typeof principal === 'string') &&
    (expiresAt === undefined || expiresAt instanceof Date) &&
    (visible === undefined || (typeof visible === 'function' && !isAsync(visible))) &&
    (presence === undefined || isPresenceGrant(presence)) &&
    (id === undefined || typeof id === 'string') &&
    (issuedAt === undefined || (issuedAt instanceof Date && !Number.isNaN(issuedAt.getTime())))
  );
}
