// Owns publishing in an interactive transaction of Prisma.
import type { SqlExecutor } from '../db/queryable.ts';
import { notInTransaction } from '../db/transaction.ts';
import { hasMethods, rowsIn, unknownShape } from './shape.ts';

/** What the callback of `prisma.$transaction()` is given: a `Prisma.TransactionClient`. */
export interface PrismaLike {
  $queryRawUnsafe(query: string, ...values: never[]): PromiseLike<unknown>;
}

/**
 * An interactive transaction of Prisma as the `tx` of publish. With the client itself, publish rejects with
 * `tx_required`, asking no server.
 *
 * @throws TypeError for anything but a Prisma client
 * @example
 * await prisma.$transaction(async (tx) => {
 *   await tx.order.create({ data: order });
 *   await stream.publish(order, { tx: fromPrisma(tx) });
 * });
 */
export function fromPrisma(tx: PrismaLike): SqlExecutor {
  if (!hasMethods(tx, '$queryRawUnsafe')) {
    throw unknownShape('fromPrisma', 'the client of a Prisma $transaction callback ($queryRawUnsafe)', tx);
  }
  return {
    query: async (text, values) => {
      // Only the client itself connects; its statements run on any connection.
      if (hasMethods(tx, '$connect')) throw notInTransaction();
      return rowsIn(await tx.$queryRawUnsafe(text, ...(values as never[])));
    },
  };
}
