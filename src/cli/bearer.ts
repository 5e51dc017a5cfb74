// Who may read the metrics of `serve`: whoever sends the token of its environment. Not "whoever is on this machine": behind
// a proxy on the same one, that is everybody.
import { createHash, timingSafeEqual } from 'node:crypto';
import { wrongUsage } from './command-error.ts';

/** As short as a token may be, in characters: what can be guessed guards nothing. */
const MIN_CHARACTERS = 16;

/**
 * A check of requests for `Authorization: Bearer <token>`.
 *
 * @throws CommandError wrong usage, for a token that is missing or short
 */
export function bearerOf(token: string): (request: Request) => boolean {
  if (token.length < MIN_CHARACTERS) {
    throw wrongUsage(
      `--metrics needs SLUICE_METRICS_TOKEN, of at least ${MIN_CHARACTERS} characters: set it here, and send it as "Authorization: Bearer …" where you scrape`,
    );
  }
  const expected = digest(`Bearer ${token}`);
  return ({ headers }) => timingSafeEqual(digest(headers.get('authorization') ?? ''), expected);
}

// Of one length, whatever was sent.
const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
