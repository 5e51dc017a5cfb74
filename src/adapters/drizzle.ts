// Owns publishing in a Drizzle transaction, over any of its PostgreSQL drivers: `execute` with a statement of the `sql`
// tag is the one public way that all of them have. The tag comes from the caller, so nothing of Drizzle is imported.
import type { SqlExecutor } from '../db/queryable.ts';
import { splitParameters } from './placeholders.ts';
import { hasMethods, rowsIn, unknownShape } from './shape.ts';

/** What the callback of Drizzle's `db.transaction()` is given. */
export interface DrizzleLike {
  execute(query: never): PromiseLike<unknown>;
}

/** The `sql` tag of drizzle-orm. */
export interface DrizzleSqlLike {
  (strings: TemplateStringsArray, ...parameters: unknown[]): unknown;
  param(value: unknown): unknown;
}

/**
 * A Drizzle transaction as the `tx` of publish. `sql` is the tag exported by `drizzle-orm`.
 *
 * @throws TypeError for anything but a Drizzle database or transaction and that tag
 * @example
 * import { sql } from 'drizzle-orm';
 * await db.transaction(async (tx) => {
 *   await tx.insert(orders).values(order);
 *   await stream.publish(order, { tx: fromDrizzle(tx, sql) });
 * });
 */
export function fromDrizzle(tx: DrizzleLike, sql: DrizzleSqlLike): SqlExecutor {
  if (!hasMethods(tx, 'execute', 'transaction')) {
    throw unknownShape('fromDrizzle', 'a Drizzle transaction (execute, transaction)', tx);
  }
  if (typeof sql !== 'function' || !hasMethods(sql, 'param', 'raw')) {
    throw unknownShape('fromDrizzle', 'the sql tag of drizzle-orm as its second argument', sql);
  }
  return {
    query: async (text, values) => {
      const { fragments, numbers } = splitParameters(text, values);
      // As values of their own, so that Drizzle spreads no array into a list.
      const parameters = numbers.map((number) => sql.param(values[number - 1]));
      const strings = Object.assign(fragments, { raw: fragments });
      return rowsIn(await tx.execute(sql(strings, ...parameters) as never));
    },
  };
}
