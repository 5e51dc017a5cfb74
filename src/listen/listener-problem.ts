// Why a listener has no session, in words that say what to do, and whether waiting can mend it. Pure.
import { driverErrorOf } from '../db/driver-error.ts';
import { fromDatabase } from '../db/sqlstate.ts';
import { SluiceError } from '../util/errors.ts';

/** Statements are answered, and notifications do not arrive. */
export const unheard = (pooled: boolean): SluiceError =>
  new SluiceError(
    'listener_unavailable',
    pooled
      ? 'notifications do not arrive: a pooler in transaction mode stands in between; give a direct address of the server as listenConnectionString'
      : 'notifications do not arrive: those sent over connectionString are not heard over the listener; see that connectionString (or pool) and listenConnectionString lead to the same database of the same server',
  );

export function asProblem(error: unknown): SluiceError {
  const translated = fromDatabase(error);
  return translated instanceof SluiceError
    ? translated
    : new SluiceError('connection_lost', `the listener could not connect: ${driverErrorOf(error).message}`, {
        cause: error,
      });
}

/** Whether it takes a change of the configuration: no such user, password, database; a standby. */
export const isMisconfigured = ({ code, cause }: SluiceError): boolean =>
  code === 'permission_denied' || code === 'unsupported_server' || driverErrorOf(cause).code === '3D000';
