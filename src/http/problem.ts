// Errors over HTTP: problem documents (RFC 9457) that say what to change, and nothing about our inside.
import { SluiceError, type SluiceErrorCode } from '../util/errors.ts';

export interface Problem {
  readonly status: number;
  readonly title: string;
  readonly detail: string;
  readonly code?: SluiceErrorCode | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
}

const RETRY_AFTER_SECONDS = '1';

export const problem = ({ status, title, detail, code, headers }: Problem): Response =>
  new Response(JSON.stringify({ type: 'about:blank', title, status, detail, ...(code ? { code } : {}) }), {
    status,
    headers: {
      'content-type': 'application/problem+json',
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      ...headers,
    },
  });

export const badRequest = (detail: string, code?: SluiceErrorCode): Response =>
  problem({ status: 400, title: 'Bad Request', detail, code });

/** @param refused a credential was shown, and is no good (RFC 6750, 3) */
export const unauthorized = (detail: string, refused = false): Response =>
  problem({
    status: 401,
    title: 'Unauthorized',
    detail,
    headers: { 'www-authenticate': `Bearer realm="sluice"${refused ? ', error="invalid_token"' : ''}` },
  });

export const forbidden = (detail: string): Response => problem({ status: 403, title: 'Forbidden', detail });

/** As a stream that is not there is answered, to the letter: for those that must not be told apart from it. */
export const streamNotFound = (name: string): Response =>
  notFound(`stream ${JSON.stringify(name)} does not exist`, 'stream_not_found');

export const notFound = (detail: string, code?: SluiceErrorCode): Response =>
  problem({ status: 404, title: 'Not Found', detail, code });

export const methodNotAllowed = (allow: string): Response =>
  problem({ status: 405, title: 'Method Not Allowed', detail: `use ${allow}`, headers: { allow } });

export const unavailable = (detail: string, code?: SluiceErrorCode): Response =>
  problem({
    status: 503,
    title: 'Service Unavailable',
    detail,
    code,
    headers: { 'retry-after': RETRY_AFTER_SECONDS },
  });

/** For whoever left while it was being answered: nobody reads this. */
export const left = (): Response =>
  problem({ status: 499, title: 'Client Closed Request', detail: 'the client left before the answer' });

/** The answer for something thrown while serving a request; undefined for what only the log may know. */
export function toProblem(error: unknown): Response | undefined {
  if (!(error instanceof SluiceError)) return undefined;
  const { code, message, retryable } = error;
  if (code === 'cursor_invalid' || code === 'name_invalid') return badRequest(message, code);
  if (code === 'stream_not_found') return notFound(message, code);
  if (retryable || code === 'closed')
    return unavailable('the service cannot answer right now; try again', code);
  return undefined;
}
