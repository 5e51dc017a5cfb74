// Guards fromPostgresJs with postgres.js itself: test/support/adapter-suite.ts says what has to hold.
import postgres, { type Sql, type TransactionSql } from 'postgres';
import { connect } from 'sluice';
import { fromPostgresJs } from 'sluice/adapters';
import { expect, test } from 'vitest';
import { describeAdapter, type AdapterSuite, type Work } from '../support/adapter-suite.ts';
import { useDatabase } from '../support/database.ts';

const workOf = (sql: TransactionSql): Work => ({
  tx: fromPostgresJs(sql),
  run: (statement) => sql.unsafe(statement),
  nested: async (work) => {
    await sql.savepoint((inner) => work(workOf(inner)));
  },
});

const suite = (name: string, options: postgres.Options<Record<string, never>>): AdapterSuite => ({
  name,
  knows: true,
  open: (connectionString) => {
    const sql = postgres(connectionString, options);
    return {
      transaction: async (work) => {
        await sql.begin((sql) => work(workOf(sql)));
      },
      outside: () => fromPostgresJs(sql),
      close: () => sql.end(),
    };
  },
  wrong: [
    [() => fromPostgresJs({} as never), /fromPostgresJs takes the sql of a postgres\.js transaction/],
    [() => fromPostgresJs(null as never), /, not null$/],
    [() => fromPostgresJs((() => []) as never), /, not a value of type function$/],
  ],
});

describeAdapter(suite('postgres.js', {}));
// Behind a transaction pooler, and with names changed on their way.
describeAdapter(
  suite('postgres.js with options', { prepare: false, fetch_types: false, transform: postgres.camel }),
);

const db = useDatabase();

test('a reserved connection is asked, since it may have begun by hand', async () => {
  await using sluice = await connect({ connectionString: db.connectionString });
  const stream = sluice.stream('orders');
  const sql: Sql = postgres(db.connectionString);
  const reserved = await sql.reserve();
  await expect(stream.publish(1, { tx: fromPostgresJs(reserved) })).rejects.toMatchObject({
    code: 'tx_required',
  });
  await reserved`begin`;
  await stream.publish(2, { tx: fromPostgresJs(reserved) });
  await reserved`commit`;
  reserved.release();
  await sql.end();
  await stream.append(3);
  expect((await stream.read()).events.map(({ data }) => data)).toEqual([2, 3]);
});
