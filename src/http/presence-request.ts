// What a connection asks of presence and what its grant lets it have: who it is comes from the grant alone, what it says
// of itself from either.
import type { Attending } from '../presence/presence.ts';
import { badRequest, problem } from './problem.ts';

/** Who a connection is to the others in its streams. */
export interface PresenceGrant {
  /** 1 to 255 characters; several connections with one id are one member. Null: sees who is there, and is not seen. */
  readonly id: string | null;
  /** What the others see of it: any JSON. Default: what the client says in `presence`. */
  readonly state?: unknown;
}

/** JSON of a state, at most, in characters. */
const MAX_STATE_LENGTH = 1024;
const MAX_ID_LENGTH = 255;

export const PRESENCE_ID_RULE = 'give 1 to 255 characters, none of them a control character';

export const isPresenceGrant = (presence: unknown): presence is PresenceGrant => {
  if (typeof presence !== 'object' || presence === null) return false;
  const { id } = presence as Partial<Record<keyof PresenceGrant, unknown>>;
  if (id === null) return true;
  return typeof id === 'string' && id !== '' && id.length <= MAX_ID_LENGTH && !/[\p{Cc}\p{Cs}]/u.test(id);
};

/** The parameter: JSON of a state, or empty. Undefined: presence is not asked for. */
export function parsePresence(text: string | null): { readonly state: string } | Response | undefined {
  if (text === null) return undefined;
  if (text === '') return { state: 'null' };
  if (text.length > MAX_STATE_LENGTH) {
    return badRequest(`presence has ${text.length} characters; the limit is ${MAX_STATE_LENGTH}`);
  }
  try {
    return { state: JSON.stringify(JSON.parse(text)) };
  } catch {
    return badRequest('presence is not JSON; give a state such as {"status":"here"}, or leave it empty');
  }
}

/** The member that a connection stands for, or the refusal. @throws TypeError for a state without a JSON form */
export function memberOf(
  asked: { readonly state: string },
  presence: PresenceGrant | undefined,
): { readonly member: Attending['member'] } | Response {
  if (!presence) {
    return problem({
      status: 403,
      title: 'Forbidden',
      detail: 'the grant does not allow presence; ask without the parameter presence',
    });
  }
  if (presence.id === null) return { member: null };
  const state = presence.state === undefined ? asked.state : JSON.stringify(presence.state);
  if (typeof state !== 'string') throw new TypeError("the grant's presence.state has no JSON form");
  return { member: { id: presence.id, state } };
}
