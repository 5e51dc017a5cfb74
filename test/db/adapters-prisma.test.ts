// Guards fromPrisma with Prisma itself: test/support/adapter-suite.ts says what has to hold.
import { Pool } from 'pg';
import { connect } from 'sluice';
import { fromPrisma } from 'sluice/adapters';
import { expect, test } from 'vitest';
import { describeAdapter, type Work } from '../support/adapter-suite.ts';
import { useDatabase } from '../support/database.ts';
import { createPrismaClient, type TransactionClient } from '../support/prisma-client.ts';

const workOf = (tx: TransactionClient): Work => ({
  tx: fromPrisma(tx),
  run: (statement) => tx.$executeRawUnsafe(statement),
  nested: (work) => tx.$transaction((inner) => work(workOf(inner))),
});

describeAdapter({
  name: 'Prisma',
  knows: true,
  open: (connectionString) => {
    const prisma = createPrismaClient(connectionString);
    return {
      transaction: (work) => prisma.$transaction((tx) => work(workOf(tx))),
      outside: () => fromPrisma(prisma),
      close: () => prisma.$disconnect(),
    };
  },
  wrong: [
    [
      () => fromPrisma({} as never),
      /fromPrisma takes the client of a Prisma \$transaction callback .*, not an object$/,
    ],
    [() => fromPrisma(undefined as never), /, not a value of type undefined$/],
    [() => fromPrisma(new Pool() as never), /, not a BoundPool$/],
  ],
});

const db = useDatabase();

test('an extended client is told from its transactions too', async () => {
  await using sluice = await connect({ connectionString: db.connectionString });
  const stream = sluice.stream('orders');
  const pass = ({ args, query }: { args: unknown; query: (args: unknown) => unknown }): unknown =>
    query(args);
  const prisma = createPrismaClient(db.connectionString).$extends({ query: { $allOperations: pass } });
  await prisma.$transaction((tx) => stream.publish(1, { tx: fromPrisma(tx) }));
  await expect(stream.publish(2, { tx: fromPrisma(prisma) })).rejects.toMatchObject({ code: 'tx_required' });
  await prisma.$disconnect();
  await stream.append(3);
  expect((await stream.read()).events.map(({ data }) => data)).toEqual([1, 3]);
});
