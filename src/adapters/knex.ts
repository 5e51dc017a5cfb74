// Owns publishing in a Knex transaction. Knex writes parameters as `?` and reads every other `?`, in literals too, as
// one more; a backslash keeps it from that.
import type { SqlExecutor } from '../db/queryable.ts';
import { notInTransaction } from '../db/transaction.ts';
import { splitParameters } from './placeholders.ts';
import { hasMethods, rowsIn, unknownShape } from './shape.ts';

/** What the callback of `knex.transaction()` is given. */
export interface KnexLike {
  readonly isTransaction?: boolean;
  raw(sql: string, bindings: never): PromiseLike<unknown>;
}

/**
 * A Knex transaction as the `tx` of publish. Outside one, or after its end, publish rejects with `tx_required`, asking
 * no server.
 *
 * @throws TypeError for anything but Knex
 * @example
 * await knex.transaction(async (trx) => {
 *   await trx('orders').insert(order);
 *   await stream.publish(order, { tx: fromKnex(trx) });
 * });
 */
export function fromKnex(trx: KnexLike): SqlExecutor {
  if (!hasMethods(trx, 'raw', 'transaction')) {
    throw unknownShape('fromKnex', 'a Knex transaction (raw, transaction)', trx);
  }
  return {
    query: async (text, values) => {
      if (trx.isTransaction !== true || isCompleted(trx)) throw notInTransaction();
      const { sql, bindings } = toKnex(text, values);
      try {
        return rowsIn(await trx.raw(sql, bindings as never));
      } catch (error) {
        throw withoutStatement(error, text);
      }
    },
  };
}

/** Knex puts the statement before the server's message, on the error that the server's driver made. */
const withoutStatement = (error: unknown, text: string): unknown => {
  const prefix = `${text} - `;
  if (error instanceof Error && error.message.startsWith(prefix)) {
    error.message = error.message.slice(prefix.length);
  }
  return error;
};

const isCompleted = (trx: object): boolean =>
  'isCompleted' in trx && typeof trx.isCompleted === 'function' && trx.isCompleted() === true;

/** @throws RangeError for a text that Knex cannot be given: one with a backslash before a question mark */
export function toKnex(text: string, values: readonly unknown[]): { sql: string; bindings: unknown[] } {
  const { fragments, numbers } = splitParameters(text, values);
  if (fragments.join('?').includes(String.raw`\?`)) {
    throw new RangeError('Knex cannot run a statement with a backslash before a question mark');
  }
  const [first = '', ...others] = fragments.map((fragment) => fragment.replaceAll('?', String.raw`\?`));
  // Two question marks in a row would be an identifier to Knex, so an operator before a parameter is set apart.
  const sql = others.reduce((sql, fragment) => `${sql}${sql.endsWith('?') ? ' ' : ''}?${fragment}`, first);
  return { sql, bindings: numbers.map((number) => values[number - 1]) };
}
