// The names and payloads of notifications, and what PostgreSQL does with them: a channel has 63 bytes and longer names
// would be cut without a word, so they are hashed; a payload has 7 999. Pure.
import { createHash } from 'node:crypto';
import { SluiceError } from '../util/errors.ts';

const MAX_CHANNEL_BYTES = 63;
const MAX_PAYLOAD_BYTES = 7999;
const HASHED = 'sluice:';
const NUL = String.fromCharCode(0);
const LONE_SURROGATE = /\p{Cs}/u;

/**
 * What a channel is called on the server: its name, or for one of more than 63 bytes `sluice:` and the first 56 hex
 * digits of the SHA-256 of its UTF-8. Anything in SQL can compute the same:
 * `'sluice:' || left(encode(sha256(convert_to(name, 'UTF8')), 'hex'), 56)`.
 *
 * @throws SluiceError name_invalid for one that is empty, or contains U+0000 or a lone surrogate
 */
export function serverChannel(name: unknown): string {
  if (typeof name !== 'string') {
    throw new SluiceError('name_invalid', `a channel name must be a string, not ${typeof name}`);
  }
  if (name === '') throw new SluiceError('name_invalid', 'a channel name must not be empty');
  if (name.includes(NUL) || LONE_SURROGATE.test(name)) {
    const what = name.includes(NUL) ? 'U+0000' : 'a lone surrogate, which UTF-8 cannot encode';
    throw new SluiceError('name_invalid', `channel name ${preview(name)} contains ${what}; leave it out`);
  }
  if (Buffer.byteLength(name) <= MAX_CHANNEL_BYTES) return name;
  const digits = MAX_CHANNEL_BYTES - HASHED.length;
  return HASHED + createHash('sha256').update(name).digest('hex').slice(0, digits);
}

/** @throws SluiceError payload_too_large, payload_invalid; TypeError for anything but a string */
export function checkPayload(channel: string, payload: unknown): asserts payload is string {
  if (typeof payload !== 'string') {
    throw new TypeError(
      `the payload of a notification is a ${typeof payload}; give a string, such as JSON.stringify makes`,
    );
  }
  if (payload.includes(NUL) || LONE_SURROGATE.test(payload)) {
    const what = payload.includes(NUL) ? 'U+0000' : 'a lone surrogate';
    throw new SluiceError(
      'payload_invalid',
      `a payload for channel ${preview(channel)} contains ${what}, which PostgreSQL cannot carry; encode it, as JSON does`,
    );
  }
  const bytes = Buffer.byteLength(payload);
  if (bytes > MAX_PAYLOAD_BYTES) {
    throw new SluiceError(
      'payload_too_large',
      `a payload for channel ${preview(channel)} has ${bytes} bytes, and a notification takes ${MAX_PAYLOAD_BYTES}; store it in a table or a stream and notify its key`,
    );
  }
}

const preview = (text: string): string => JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
