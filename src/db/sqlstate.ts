// SQLSTATE → SluiceError, in this one place. Our own states have class SL: classes whose first letter is I to Z are
// left to implementations by the SQL standard.
import { SluiceError, messageOf, type SluiceErrorCode } from '../util/errors.ts';

/** What sql/functions raise. */
export const OWN_SQLSTATES: Readonly<Record<string, SluiceErrorCode>> = {
  SL001: 'stream_not_found',
  SL002: 'stream_exists',
  SL003: 'stream_closed',
  SL004: 'name_invalid',
  SL005: 'payload_invalid',
  SL006: 'unsupported_server',
};

const SQLSTATES: Readonly<Record<string, SluiceErrorCode>> = {
  ...OWN_SQLSTATES,
  '22021': 'payload_invalid', // a character the encoding does not have, such as U+0000
  '22P02': 'payload_invalid', // not JSON
  '22P05': 'payload_invalid',
  '25P02': 'tx_required', // the user's transaction has failed before
  '54001': 'payload_invalid', // JSON nested too deeply for the server
  '54000': 'payload_too_large',
  '55P03': 'overloaded', // lock_timeout
  '53300': 'overloaded', // too many connections
  '28000': 'permission_denied',
  '28P01': 'permission_denied',
  '42501': 'permission_denied',
  '3F000': 'schema_mismatch',
  '42883': 'schema_mismatch',
  '42P01': 'schema_mismatch',
  '42703': 'schema_mismatch',
  '3D000': 'connection_lost',
};

const REMEDIES: Partial<Record<SluiceErrorCode, string>> = {
  permission_denied: 'check the user, the password and what is granted to it',
  schema_mismatch: 'run `npx sluice migrate`',
  overloaded: 'try again later',
  tx_required: 'roll back and begin again',
};

const NETWORK = new Set([
  'ECONNREFUSED', 'ECONNRESET', 'ETIMEDOUT', 'EPIPE', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'ENOENT',
]); // prettier-ignore

const codeOf = (error: unknown): string | undefined =>
  typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'string'
    ? error.code
    : undefined;

const isConnectionLoss = (error: unknown, code: string | undefined): boolean =>
  code === undefined
    ? error instanceof Error &&
      /^(Connection terminated|Client has encountered|timeout e|Query read timeout)/.test(error.message)
    : NETWORK.has(code) || code.startsWith('08') || code.startsWith('57P');

/** The SluiceError for something PostgreSQL or its driver threw; anything not known passes through as it is. */
export function fromDatabase(error: unknown): unknown {
  if (error instanceof SluiceError) return error;
  const code = codeOf(error);
  if (isConnectionLoss(error, code)) {
    return new SluiceError('connection_lost', `the connection to PostgreSQL failed: ${describe(error)}`, {
      cause: error,
    });
  }
  const mapped = code === undefined ? withoutCode(error) : SQLSTATES[code];
  if (mapped === undefined) return error;
  const hint = hintOf(error) ?? REMEDIES[mapped];
  return new SluiceError(mapped, messageOf(error) + (hint === undefined ? '' : `; ${hint}`), {
    cause: error,
  });
}

// The driver's own half of a login: no password was given where one is asked for.
const withoutCode = (error: unknown): SluiceErrorCode | undefined =>
  error instanceof Error && error.message.startsWith('SASL: ') ? 'permission_denied' : undefined;

const hintOf = (error: unknown): string | undefined =>
  typeof error === 'object' && error !== null && 'hint' in error && typeof error.hint === 'string'
    ? error.hint
    : undefined;

// An AggregateError (IPv6 and IPv4 both refused) has an empty message of its own.
const describe = (error: unknown): string =>
  error instanceof AggregateError ? error.errors.map(messageOf).join(', ') : messageOf(error);

/** Runs database work, translating what it throws. */
export async function translated<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw fromDatabase(error);
  }
}
