// Guards fromTypeOrm with TypeORM itself, given managers and query runners: test/support/adapter-suite.ts says what has
// to hold.
import { Pool } from 'pg';
import { fromTypeOrm } from 'sluice/adapters';
import { DataSource, type EntityManager, type QueryRunner } from 'typeorm';
import { describeAdapter, type AdapterSuite, type Work } from '../support/adapter-suite.ts';

const ofManager = (manager: EntityManager): Work => ({
  tx: fromTypeOrm(manager),
  run: (statement) => manager.query(statement),
  nested: (work) => manager.transaction((inner) => work(ofManager(inner))),
});

const ofRunner = (runner: QueryRunner): Work => ({
  tx: fromTypeOrm(runner),
  run: (statement) => runner.query(statement),
  nested: (work) => inTransaction(runner, work),
});

/** TypeORM makes it a savepoint when a transaction is open. */
const inTransaction = async (runner: QueryRunner, work: (at: Work) => Promise<void>): Promise<void> => {
  await runner.startTransaction();
  try {
    await work(ofRunner(runner));
  } catch (error) {
    await runner.rollbackTransaction();
    throw error;
  }
  await runner.commitTransaction();
};

const wrong: AdapterSuite['wrong'] = [
  [
    () => fromTypeOrm({} as never),
    /fromTypeOrm takes a TypeORM EntityManager or QueryRunner .*, not an object$/,
  ],
  [() => fromTypeOrm(new Pool() as never), /, not a BoundPool$/],
  [() => fromTypeOrm(null as never), /, not null$/],
];

/** Connects with its first transaction. */
const lazily = (
  url: string,
): { source: DataSource; connected: () => Promise<DataSource>; close: () => Promise<void> } => {
  const source = new DataSource({ type: 'postgres', url });
  return {
    source,
    connected: async () => (source.isInitialized ? source : source.initialize()),
    close: async () => (source.isInitialized ? source.destroy() : undefined),
  };
};

describeAdapter({
  name: 'TypeORM with a manager',
  knows: true,
  open: (connectionString) => {
    const { source, connected, close } = lazily(connectionString);
    return {
      transaction: async (work) => (await connected()).transaction((manager) => work(ofManager(manager))),
      outside: () => fromTypeOrm(source.manager),
      close,
    };
  },
  wrong,
});

describeAdapter({
  name: 'TypeORM with a query runner',
  knows: true,
  open: (connectionString) => {
    const { source, connected, close } = lazily(connectionString);
    return {
      transaction: async (work) => {
        const runner = (await connected()).createQueryRunner();
        try {
          await inTransaction(runner, work);
        } finally {
          await runner.release();
        }
      },
      outside: () => fromTypeOrm(source.createQueryRunner()),
      close,
    };
  },
  wrong,
});
