// Guards fromDrizzle with Drizzle itself, over both of its usual drivers: test/support/adapter-suite.ts says what has to
// hold.
import { sql, type ExtractTablesWithRelations } from 'drizzle-orm';
import { drizzle as overNodePostgres } from 'drizzle-orm/node-postgres';
import type { PgQueryResultHKT, PgTransaction } from 'drizzle-orm/pg-core';
import { drizzle as overPostgresJs } from 'drizzle-orm/postgres-js';
import { Pool } from 'pg';
import postgres from 'postgres';
import { fromDrizzle } from 'sluice/adapters';
import { describeAdapter, type AdapterSuite, type Work } from '../support/adapter-suite.ts';

type NoTables = Record<string, never>;
/** Whatever the driver. */
type Transaction = PgTransaction<PgQueryResultHKT, NoTables, ExtractTablesWithRelations<NoTables>>;

const workOf = (tx: Transaction): Work => ({
  tx: fromDrizzle(tx, sql),
  run: async (statement) => tx.execute(sql.raw(statement)),
  nested: (work) => tx.transaction((inner) => work(workOf(inner))),
});

const wrong: AdapterSuite['wrong'] = [
  [
    () => fromDrizzle({} as never, sql),
    /fromDrizzle takes a Drizzle transaction \(execute, transaction\), not an object$/,
  ],
  [() => fromDrizzle(new Pool() as never, sql), /Drizzle transaction .*, not a BoundPool$/],
  [
    () => fromDrizzle(overNodePostgres(new Pool()), undefined as never),
    /takes the sql tag of drizzle-orm as its second argument, not a value of type undefined$/,
  ],
];

describeAdapter({
  name: 'Drizzle over node-postgres',
  knows: false,
  open: (connectionString) => {
    const pool = new Pool({ connectionString });
    const db = overNodePostgres(pool);
    return {
      transaction: (work) => db.transaction((tx) => work(workOf(tx))),
      outside: () => fromDrizzle(db, sql),
      close: () => pool.end(),
    };
  },
  wrong,
});

describeAdapter({
  name: 'Drizzle over postgres.js',
  knows: false,
  open: (connectionString) => {
    const client = postgres(connectionString);
    const db = overPostgresJs(client);
    return {
      transaction: (work) => db.transaction((tx) => work(workOf(tx))),
      outside: () => fromDrizzle(db, sql),
      close: () => client.end(),
    };
  },
  wrong,
});
