// Owns the proof that an executor is inside a transaction. What the caller wants undone together must not be written by
// autocommit: that would be a silent loss of atomicity. Leaves nothing behind in the transaction.
import { SluiceError } from '../util/errors.ts';
import { driverErrorOf } from './driver-error.ts';
import type { Queryable, SqlExecutor } from './queryable.ts';
import { fromDatabase } from './sqlstate.ts';

const NO_ACTIVE_TRANSACTION = '25P01';
const WRAP = 'wrap what is no pg client with the function of its library in sluice/adapters';

/** A pg client (8.21 or newer): it knows whether it is inside a transaction, and takes prepared statements. */
export interface PgClient extends Queryable {
  getTransactionStatus(): string | null;
}

/** Whether it is such a client, and connected. */
export const isPgClient = (tx: object): tx is PgClient =>
  'getTransactionStatus' in tx &&
  typeof tx.getTransactionStatus === 'function' &&
  (tx as PgClient).getTransactionStatus() !== null;

/**
 * Undefined: proven at once, so that a pg client's next statement can be sent before any that the caller sends meanwhile.
 *
 * @throws TypeError for a pool, or something that cannot run a statement
 * @throws SluiceError tx_required for what is not inside a transaction
 */
export function requireTransaction(tx: SqlExecutor): Promise<void> | undefined {
  checkExecutor(tx);
  if (!isPgClient(tx)) return requireSavepoint(tx);
  if (tx.getTransactionStatus() === 'I') throw notInTransaction();
  return undefined;
}

function checkExecutor(tx: SqlExecutor): void {
  if (typeof tx !== 'object' || tx === null || typeof tx.query !== 'function') {
    throw new TypeError(
      `tx must have a query(text, values) method, such as a pg client inside a transaction; ${WRAP}`,
    );
  }
  if ('totalCount' in tx || 'idleCount' in tx) {
    throw new TypeError(
      'tx is a pool, whose statements run on any connection; check out a client, begin, and pass that',
    );
  }
}

/** Other executors cannot say where they are; a savepoint exists only inside a transaction. */
async function requireSavepoint(tx: SqlExecutor): Promise<void> {
  let answer: unknown;
  try {
    answer = await tx.query('savepoint sluice_publish', []);
    await tx.query('release savepoint sluice_publish', []);
  } catch (error) {
    if (driverErrorOf(error).code === NO_ACTIVE_TRANSACTION) throw notInTransaction(error);
    throw fromDatabase(error);
  }
  if (!hasRows(answer)) throw new TypeError(`tx.query must resolve to an object with rows; ${WRAP}`);
}

const hasRows = (answer: unknown): boolean =>
  typeof answer === 'object' && answer !== null && 'rows' in answer && Array.isArray(answer.rows);

export const notInTransaction = (cause?: unknown): SluiceError =>
  new SluiceError(
    'tx_required',
    'tx is not inside a transaction, so the event could not be undone with it; begin first, or leave tx out',
    { cause },
  );
