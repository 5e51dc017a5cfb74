// The secrets that tokens are signed with: checked, and named by a key id that says nothing about them. The first signs,
// all verify, so a new one is put in front and the old one taken away once its tokens have expired.
import { createHash, webcrypto } from 'node:crypto';

export interface TokenKey {
  /** Goes into the header of each token. */
  readonly id: string;
  /** Imported once: that costs as much as a signature. */
  readonly key: Promise<webcrypto.CryptoKey>;
}

export interface TokenKeys {
  readonly signing: TokenKey;
  find(id: unknown): TokenKey | undefined;
}

/** As long as the hash, as RFC 7518, 3.2 asks. */
const MIN_SECRET_BYTES = 32;
/** What is typed in to fill the length repeats itself; 32 random bytes in any spelling do not. */
const MIN_DISTINCT_BYTES = 8;
const REMEDY = 'make one with `openssl rand -base64 32`';

/** @throws TypeError, RangeError; never with the secret in the message */
export function tokenKeys(secret: string | readonly string[]): TokenKeys {
  const secrets: readonly unknown[] = typeof secret === 'string' ? [secret] : secret;
  if (!Array.isArray(secrets)) throw new TypeError('secret must be a string, or a list of them');
  const keys = secrets.map((each, index) =>
    toKey(each, secrets.length > 1 ? `secret ${index + 1}` : 'secret'),
  );
  const [signing] = keys;
  if (!signing) throw new RangeError(`secret is an empty list; ${REMEDY}`);
  const byId = new Map(keys.map((key) => [key.id, key]));
  return { signing, find: (id) => (typeof id === 'string' ? byId.get(id) : undefined) };
}

function toKey(secret: unknown, name: string): TokenKey {
  if (typeof secret !== 'string') throw new TypeError(`${name} must be a string, not ${typeof secret}`);
  const bytes = new TextEncoder().encode(secret);
  if (bytes.length < MIN_SECRET_BYTES) {
    throw new RangeError(
      `${name} has ${bytes.length} bytes; at least ${MIN_SECRET_BYTES} are needed: ${REMEDY}`,
    );
  }
  if (new Set(bytes).size < MIN_DISTINCT_BYTES) {
    throw new RangeError(`${name} repeats the same few characters and can be guessed; ${REMEDY}`);
  }
  const id = createHash('sha256').update('sluice key id:').update(bytes).digest('base64url').slice(0, 11);
  const algorithm = { name: 'HMAC', hash: 'SHA-256' };
  const key = webcrypto.subtle.importKey('raw', bytes, algorithm, false, ['sign', 'verify']);
  return { id, key };
}
