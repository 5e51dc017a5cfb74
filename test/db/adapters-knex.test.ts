// Guards fromKnex with Knex itself: test/support/adapter-suite.ts says what has to hold. How it writes statements for
// Knex is in test/unit/placeholders.test.ts.
import knex, { type Knex } from 'knex';
import { Pool } from 'pg';
import { fromKnex } from 'sluice/adapters';
import { describeAdapter, type Work } from '../support/adapter-suite.ts';

const workOf = (trx: Knex.Transaction): Work => ({
  tx: fromKnex(trx),
  run: (statement) => trx.raw(statement),
  nested: (work) => trx.transaction((inner) => work(workOf(inner))),
});

describeAdapter({
  name: 'Knex',
  knows: true,
  open: (connectionString) => {
    const db: Knex = knex({ client: 'pg', connection: connectionString });
    return {
      transaction: (work) => db.transaction((trx) => work(workOf(trx))),
      outside: () => fromKnex(db),
      close: () => db.destroy(),
    };
  },
  wrong: [
    [() => fromKnex({} as never), /fromKnex takes a Knex transaction \(raw, transaction\), not an object$/],
    [() => fromKnex('trx' as never), /, not a value of type string$/],
    [() => fromKnex(new Pool() as never), /, not a BoundPool$/],
  ],
});
