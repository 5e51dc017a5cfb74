// Owns publishing in a Kysely transaction. A compiled query is a plain object there, so one is made without Kysely.
import type { SqlExecutor } from '../db/queryable.ts';
import { notInTransaction } from '../db/transaction.ts';
import { hasMethods, rowsIn, unknownShape } from './shape.ts';

/** A Kysely `Transaction`, of `transaction()` or `startTransaction()`, whatever its dialect for PostgreSQL. */
export interface KyselyLike {
  readonly isTransaction: boolean;
  executeQuery(query: never): PromiseLike<{ readonly rows: readonly unknown[] }>;
}

/**
 * A Kysely transaction as the `tx` of publish. Outside one, publish rejects with `tx_required`, asking no server.
 *
 * @throws TypeError for anything but a Kysely instance
 * @example
 * await db.transaction().execute(async (trx) => {
 *   await trx.insertInto('orders').values(order).execute();
 *   await stream.publish(order, { tx: fromKysely(trx) });
 * });
 */
export function fromKysely(trx: KyselyLike): SqlExecutor {
  if (!hasMethods(trx, 'executeQuery') || typeof trx.isTransaction !== 'boolean') {
    throw unknownShape('fromKysely', 'a Kysely Transaction (executeQuery, isTransaction)', trx);
  }
  return {
    query: async (text, values) => {
      if (!trx.isTransaction) throw notInTransaction();
      return rowsIn(await trx.executeQuery(compiled(text, values)));
    },
  };
}

const compiled = (text: string, values: readonly unknown[]): never =>
  ({
    sql: text,
    parameters: values,
    query: { kind: 'RawNode', sqlFragments: [text], parameters: [] },
    // Plugins tell queries apart by this object.
    queryId: { queryId: 'sluice' },
  }) as never;
