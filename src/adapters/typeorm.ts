// Owns publishing in a TypeORM transaction. A manager runs its statements on any connection unless it has a query
// runner, and the runner knows whether a transaction is open, so both are asked before the server is.
import type { SqlExecutor } from '../db/queryable.ts';
import { notInTransaction } from '../db/transaction.ts';
import { hasMethods, isObject, rowsIn, unknownShape } from './shape.ts';

/** A TypeORM `QueryRunner` after `startTransaction()`. */
export interface TypeOrmRunnerLike {
  readonly isTransactionActive: boolean;
  query(
    query: string,
    parameters: never[],
    useStructuredResult: true,
  ): PromiseLike<{ readonly records: unknown }>;
}

/** The `EntityManager` that the callback of TypeORM's `transaction()` is given. */
export interface TypeOrmManagerLike {
  readonly queryRunner?: TypeOrmRunnerLike | undefined;
  transaction: unknown;
}

/**
 * A TypeORM transaction as the `tx` of publish. Outside one, publish rejects with `tx_required`, asking no server.
 *
 * @throws TypeError for anything but an EntityManager or a QueryRunner
 * @example
 * await dataSource.transaction(async (manager) => {
 *   await manager.save(order);
 *   await stream.publish(order, { tx: fromTypeOrm(manager) });
 * });
 */
export function fromTypeOrm(transaction: TypeOrmManagerLike | TypeOrmRunnerLike): SqlExecutor {
  if (!isRunner(transaction) && !isManager(transaction)) {
    throw unknownShape('fromTypeOrm', 'a TypeORM EntityManager or QueryRunner of a transaction', transaction);
  }
  return {
    query: async (text, values) => {
      const runner = isRunner(transaction) ? transaction : transaction.queryRunner;
      if (runner?.isTransactionActive !== true) throw notInTransaction();
      // Structured, since the plain result of an update is a pair of rows and count.
      const { records } = await runner.query(text, values as never[], true);
      return rowsIn(records);
    },
  };
}

const isRunner = (value: unknown): value is TypeOrmRunnerLike =>
  isObject(value) && hasMethods(value, 'query') && typeof value['isTransactionActive'] === 'boolean';

const isManager = (value: unknown): value is TypeOrmManagerLike =>
  hasMethods(value, 'query', 'transaction', 'getRepository');
