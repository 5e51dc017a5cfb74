// Guards that a client of node-postgres needs no adapter: test/support/adapter-suite.ts says what has to hold. And that
// what does need one, or is no transaction at all, is named before anything is written.
import { Client, Pool } from 'pg';
import { connect, type SqlExecutor } from 'sluice';
import { DataSource } from 'typeorm';
import { expect, test } from 'vitest';
import { describeAdapter, type Work } from '../support/adapter-suite.ts';
import { useDatabase } from '../support/database.ts';

const workOf = (client: Client): Work => ({
  tx: client,
  run: (statement) => client.query(statement),
  nested: async (work) => {
    await client.query('savepoint inner_work');
    try {
      await work(workOf(client));
    } catch (error) {
      await client.query('rollback to savepoint inner_work');
      throw error;
    }
    await client.query('release savepoint inner_work');
  },
});

describeAdapter({
  name: 'pg',
  knows: false,
  open: (connectionString) => {
    const client = new Client({ connectionString });
    let connecting: Promise<unknown> | undefined;
    return {
      transaction: async (work) => {
        await (connecting ??= client.connect());
        await client.query('begin');
        try {
          await work(workOf(client));
        } catch (error) {
          await client.query('rollback');
          throw error;
        }
        await client.query('commit');
      },
      outside: () => client,
      close: () => client.end(),
    };
  },
  wrong: [],
});

const db = useDatabase();

test('I3: a publish that nobody waited for goes out before what follows it', async () => {
  await using sluice = await connect({ connectionString: db.connectionString });
  const stream = sluice.stream('hasty');
  const client = new Client({ connectionString: db.connectionString });
  await client.connect();
  await client.query('begin');
  const published = stream.publish('undone', { tx: client });
  await client.query('rollback');
  await published;
  await client.end();
  await stream.append('only');
  expect((await stream.read()).events.map(({ data }) => data)).toEqual(['only']);
});

test('what is no executor is refused as a TypeError that says what is, and leaves the transaction usable', async () => {
  await using sluice = await connect({ connectionString: db.connectionString });
  const stream = sluice.stream('orders');
  const given = (tx: unknown): Promise<unknown> => stream.publish(1, { tx: tx as SqlExecutor });
  const pool = new Pool({ connectionString: db.connectionString });
  await expect(given(pool)).rejects.toThrow(
    new TypeError(
      'tx is a pool, whose statements run on any connection; check out a client, begin, and pass that',
    ),
  );
  await pool.end();
  for (const tx of [{}, 'client', null, () => []]) {
    await expect(given(tx)).rejects.toThrow(/^tx must have a query\(text, values\) method.*sluice\/adapters/);
  }
  // Has a query method, but its answers are another's.
  const source = await new DataSource({ type: 'postgres', url: db.connectionString }).initialize();
  await source.transaction(async (manager) => {
    await expect(given(manager)).rejects.toThrow(
      /^tx\.query must resolve to an object with rows; .*sluice\/adapters/,
    );
    await manager.query('select 1');
  });
  await source.destroy();
  expect(await stream.info()).toBeNull();
  expect((await db.query('select from sluice.outbox')).rows).toHaveLength(0);
});
