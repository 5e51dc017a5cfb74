// Owns publishing in a transaction of postgres.js.
import type { SqlExecutor } from '../db/queryable.ts';
import { notInTransaction } from '../db/transaction.ts';
import { hasMethods, rowsIn, unknownShape } from './shape.ts';

/** The `sql` that the callback of `sql.begin()` or `sql.savepoint()` is given, or a reserved one. */
export interface PostgresJsLike {
  unsafe(query: string, parameters?: never[]): PromiseLike<readonly unknown[]>;
}

/**
 * A transaction of postgres.js as the `tx` of publish. With the pooled `sql`, publish rejects with `tx_required`, asking
 * no server.
 *
 * @throws TypeError for anything but an `sql` of postgres.js
 * @example
 * await sql.begin(async (sql) => {
 *   await sql`insert into orders ${sql(order)}`;
 *   await stream.publish(order, { tx: fromPostgresJs(sql) });
 * });
 */
export function fromPostgresJs(sql: PostgresJsLike): SqlExecutor {
  if (!hasMethods(sql, 'unsafe', 'typed')) {
    throw unknownShape('fromPostgresJs', 'the sql of a postgres.js transaction (unsafe, typed)', sql);
  }
  return {
    query: async (text, values) => {
      // Only the pool can begin; its statements run on any connection.
      if (hasMethods(sql, 'begin')) throw notInTransaction();
      return rowsIn(await sql.unsafe(text, values as never[]));
    },
  };
}
