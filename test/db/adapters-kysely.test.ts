// Guards fromKysely with Kysely itself, over node-postgres: test/support/adapter-suite.ts says what has to hold.
import {
  CamelCasePlugin,
  Kysely,
  PostgresDialect,
  sql,
  type ControlledTransaction,
  type Transaction,
} from 'kysely';
import { Pool } from 'pg';
import { connect } from 'sluice';
import { fromKysely } from 'sluice/adapters';
import { expect, test } from 'vitest';
import { describeAdapter, type Work } from '../support/adapter-suite.ts';
import { useDatabase } from '../support/database.ts';

interface Tables {
  ownRows: { value: string };
}

const connectKysely = (connectionString: string): Kysely<Tables> =>
  new Kysely<Tables>({
    dialect: new PostgresDialect({ pool: new Pool({ connectionString }) }),
    // Changes the columns of every result, so the adapter is seen to need none of its own.
    plugins: [new CamelCasePlugin()],
  });

const workOf = (trx: ControlledTransaction<Tables, string[]>): Work => ({
  tx: fromKysely(trx),
  run: (statement) => sql.raw(statement).execute(trx),
  nested: async (work) => {
    const inner = await trx.savepoint('inner').execute();
    try {
      await work(workOf(inner));
    } catch (error) {
      await inner.rollbackToSavepoint('inner').execute();
      throw error;
    }
    await inner.releaseSavepoint('inner').execute();
  },
});

describeAdapter({
  name: 'Kysely',
  knows: true,
  open: (connectionString) => {
    const kysely = connectKysely(connectionString);
    return {
      transaction: async (work) => {
        const trx = await kysely.startTransaction().execute();
        try {
          await work(workOf(trx));
        } catch (error) {
          await trx.rollback().execute();
          throw error;
        }
        await trx.commit().execute();
      },
      outside: () => fromKysely(kysely),
      close: () => kysely.destroy(),
    };
  },
  wrong: [
    [
      () => fromKysely({} as never),
      /fromKysely takes a Kysely Transaction \(executeQuery, isTransaction\), not an object$/,
    ],
    [() => fromKysely(undefined as never), /Kysely Transaction.*, not a value of type undefined$/],
    [() => fromKysely(new Pool() as never), /Kysely Transaction.*, not a BoundPool$/],
  ],
});

const db = useDatabase();

test('the transaction of a callback fits, by its own type', async () => {
  await using sluice = await connect({ connectionString: db.connectionString });
  const stream = sluice.stream('orders');
  const kysely = connectKysely(db.connectionString);
  const publish = (trx: Transaction<Tables>): Promise<unknown> => stream.publish(1, { tx: fromKysely(trx) });
  await kysely.transaction().setIsolationLevel('serializable').execute(publish);
  await kysely.destroy();
  const { offset } = await stream.append(2);
  expect(offset).toBe(2n);
});
