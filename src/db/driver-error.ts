// Owns finding what PostgreSQL or the network said inside what was thrown. Drivers throw it plainly; libraries on top
// of them wrap it: Drizzle as `cause`, TypeORM as `driverError`, Prisma in `meta`, under a code of its own. Pure.

export interface DriverError {
  /** A SQLSTATE or the name of a network failure; undefined: the driver gave none. */
  readonly code: string | undefined;
  readonly message: string;
  readonly hint: string | undefined;
}

const NETWORK: ReadonlySet<string> = new Set([
  'ECONNREFUSED', 'ECONNRESET', 'ETIMEDOUT', 'EPIPE', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'ENOENT',
  'EACCES', 'EADDRNOTAVAIL', 'ECONNABORTED', 'EHOSTDOWN', 'ENETDOWN',
  // Those of postgres.js
  'CONNECTION_CLOSED', 'CONNECTION_ENDED', 'CONNECTION_DESTROYED', 'CONNECT_TIMEOUT',
]); // prettier-ignore

/** OpenSSL's names for certificates that are not believed, and Node's for the rest of TLS. */
const TLS =
  /^(?:ERR_(?:TLS|SSL)_|CERT_|CRL_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|HOSTNAME_MISMATCH|INVALID_CA|EPROTO$)/;

// Prisma's own codes (P1001, P2010) look like SQLSTATEs; PostgreSQL has none whose class is P1 to P9.
const isDriverCode = (code: string): boolean =>
  /^(?!P[1-9])[0-9A-Z]{5}$/.test(code) || NETWORK.has(code) || TLS.test(code);

/** Where libraries keep what the driver threw, in the order to look. */
const WRAPPED_IN = ['driverError', 'driverAdapterError', 'meta', 'cause'];
const MAX_DEPTH = 5;

/** What pg says of a connection that could not be made or was lost, where it gives no code. */
const LOSS =
  /^(?:Connection terminated|Client has encountered|timeout e|Query read timeout|The server does not support SSL|There was an error establishing an SSL)/;

/** Whether it is of a connection that could not be made or was lost. */
export const isLoss = ({ code, message }: DriverError): boolean =>
  code === undefined
    ? LOSS.test(message)
    : NETWORK.has(code) || TLS.test(code) || code.startsWith('08') || code.startsWith('57P');

/** Without a code the innermost message is the driver's, but for its pool, which knows better why a connection ended. */
export function driverErrorOf(error: unknown): DriverError {
  const coded = withCode(error, MAX_DEPTH);
  if (coded !== undefined) return coded;
  const messages = causesOf(error).map(messageOf);
  const message = messages.find((each) => LOSS.test(each)) ?? messages.at(-1) ?? '';
  return { code: undefined, message, hint: undefined };
}

function withCode(error: unknown, depth: number): DriverError | undefined {
  if (depth === 0 || !isObject(error)) return undefined;
  const code = [error['originalCode'], error['code']].find((each) => isText(each) && isDriverCode(each));
  if (code !== undefined) return { code: code as string, message: messageOf(error), hint: hintOf(error) };
  for (const member of WRAPPED_IN) {
    const found = withCode(error[member], depth - 1);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** What was thrown and what it wraps, from the outside. */
const causesOf = (error: unknown): unknown[] => {
  const causes = [error];
  for (let inner = error; causes.length < MAX_DEPTH && isObject(inner) && isObject(inner['cause']);) {
    inner = inner['cause'];
    causes.push(inner);
  }
  return causes;
};

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null;

const isText = (value: unknown): value is string => typeof value === 'string';

const hintOf = ({ hint }: Record<string, unknown>): string | undefined => (isText(hint) ? hint : undefined);

/** An AggregateError (IPv6 and IPv4 both refused) has an empty message of its own. */
function messageOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(messageOf).join(', ');
  if (!isObject(error)) return String(error);
  return [error['originalMessage'], error['message']].find(isText) ?? '';
}
