// SQLSTATE → SluiceError, in this one place. Our own states have class SL: classes whose first letter is I to Z are
// left to implementations by the SQL standard.
import { SluiceError, type SluiceErrorCode } from '../util/errors.ts';
import { driverErrorOf, isLoss, type DriverError } from './driver-error.ts';

/** What sql/functions raise. */
export const OWN_SQLSTATES: Readonly<Record<string, SluiceErrorCode>> = {
  SL001: 'stream_not_found',
  SL002: 'stream_exists',
  SL003: 'stream_closed',
  SL004: 'name_invalid',
  SL005: 'payload_invalid',
  SL006: 'unsupported_server',
  SL007: 'offset_conflict',
  SL008: 'lease_lost',
};

const SQLSTATES: Readonly<Record<string, SluiceErrorCode>> = {
  ...OWN_SQLSTATES,
  '22021': 'payload_invalid', // a character the encoding does not have, such as U+0000
  '22P02': 'payload_invalid', // not JSON
  '22P05': 'payload_invalid',
  '25006': 'unsupported_server', // a standby, or a read-only transaction
  '25P02': 'tx_required', // the user's transaction has failed before
  '54001': 'payload_invalid', // JSON nested too deeply for the server
  '54000': 'payload_too_large',
  '40P01': 'overloaded', // a deadlock: this one is undone, and the other goes on
  '55P03': 'overloaded', // lock_timeout
  '53300': 'overloaded', // too many connections
  '53400': 'overloaded', // a limit of ours: more is broadcast than is taken
  '28000': 'permission_denied',
  '28P01': 'permission_denied',
  '42501': 'permission_denied',
  '3F000': 'schema_mismatch',
  '42883': 'schema_mismatch',
  '42P01': 'schema_mismatch',
  '42703': 'schema_mismatch',
  '3D000': 'connection_lost',
};

/** What a function cannot work with (invalid_parameter_value): the caller's mistake, and no state of affairs. */
const BAD_VALUE = '22023';

const REMEDIES: Partial<Record<SluiceErrorCode, string>> = {
  permission_denied:
    'check the user, the password and what is granted to it: `npx sluice doctor` says what is missing',
  schema_mismatch: 'run `npx sluice migrate`',
  overloaded: 'try again later',
  unsupported_server: 'write to the primary, outside of read-only transactions',
  tx_required: 'roll back and begin again',
  connection_lost: 'create it, or name another one', // 3D000 alone: of what breaks off, the network's words are enough
};

/** The SluiceError for something PostgreSQL, its driver or a library on top threw; anything not known passes through. */
export function fromDatabase(error: unknown): unknown {
  if (error instanceof SluiceError) return error;
  const found = driverErrorOf(error);
  if (isLoss(found)) {
    return new SluiceError('connection_lost', `the connection to PostgreSQL failed: ${found.message}`, {
      cause: error,
    });
  }
  if (found.code === BAD_VALUE) return new RangeError(withHint(found.message, found.hint), { cause: error });
  const mapped = found.code === undefined ? withoutCode(found) : SQLSTATES[found.code];
  if (mapped === undefined) return error;
  return new SluiceError(mapped, withHint(found.message, found.hint ?? REMEDIES[mapped]), { cause: error });
}

const withHint = (message: string, hint: string | undefined): string =>
  hint === undefined ? message : `${message}; ${hint}`;

// The driver's own half of a login: no password was given where one is asked for.
const withoutCode = ({ message }: DriverError): SluiceErrorCode | undefined =>
  message.startsWith('SASL: ') ? 'permission_denied' : undefined;

/** Runs database work, translating what it throws. */
export async function translated<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw fromDatabase(error);
  }
}
