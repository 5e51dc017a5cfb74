// Owns the secrets and the hand-made tokens of tests: what an attacker, an older release or another program with the same
// secret could write, which `createTokens` itself never would.
import { randomBytes } from 'node:crypto';
import { SignJWT, type JWTPayload } from 'jose';

export const newSecret = (): string => randomBytes(32).toString('base64');

export const decodePart = (token: string, part: 0 | 1): Record<string, unknown> =>
  JSON.parse(Buffer.from(token.split('.')[part]!, 'base64url').toString()) as Record<string, unknown>;

export interface Forgery {
  readonly secret: string;
  /** Laid over those of the token. */
  readonly header?: Readonly<Record<string, unknown>>;
  /** Laid over those of the token; undefined takes one away. */
  readonly claims?: Readonly<Record<string, unknown>>;
}

/** A good token, changed and signed again. */
export const forge = (token: string, { secret, header = {}, claims = {} }: Forgery): Promise<string> => {
  const payload = { ...decodePart(token, 1), ...claims } as JWTPayload;
  for (const [name, value] of Object.entries(payload)) if (value === undefined) delete payload[name];
  return new SignJWT(payload)
    .setProtectedHeader({ alg: 'HS256', ...decodePart(token, 0), ...header })
    .sign(new TextEncoder().encode(secret));
};
