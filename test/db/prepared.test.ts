// I3 where statements stay prepared: on a user's client only if it reaches the server the way Sluice does. Through
// another way there may be a pooler that forgets them, and the error would abort the user's transaction.
import { connect } from 'sluice';
import { Client, Pool } from 'pg';
import { expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { createProxy } from '../support/proxy.ts';

const db = useDatabase();

const publishPrepared = async (connectionString: string): Promise<number> => {
  await using sluice = await connect({ connectionString: db.connectionString });
  const client = new Client({ connectionString });
  await client.connect();
  try {
    await client.query('begin');
    await sluice.stream('prepared').publish(1, { tx: client });
    const { rows } = await client.query<{ count: number }>(
      `select count(*)::integer as count from pg_prepared_statements where statement like '%publish(%'`,
    );
    await client.query('commit');
    return rows[0]!.count;
  } finally {
    await client.end();
  }
};

test('I3: a publish stays prepared on a client that goes where Sluice goes', async () => {
  expect(await publishPrepared(db.connectionString)).toBe(1);
});

test('I3: a publish leaves nothing prepared on a client that goes another way', async () => {
  const url = new URL(db.connectionString);
  using proxy = await createProxy({ targetPort: Number(url.port) });
  url.port = String(proxy.port);
  expect(await publishPrepared(url.href)).toBe(0);
});

test('I3: nothing stays prepared through a pool that goes another way', async () => {
  const url = new URL(db.connectionString);
  using proxy = await createProxy({ targetPort: Number(url.port) });
  url.port = String(proxy.port);
  const pool = new Pool({ connectionString: url.href, max: 1 });
  const sluice = await connect({ connectionString: db.connectionString, pool, relay: false });
  await sluice.stream('pooled').append(1);
  const { rows } = await pool.query<{ count: number }>(
    'select count(*)::integer as count from pg_prepared_statements',
  );
  expect(rows[0]!.count).toBe(0);
  await sluice.close();
  await pool.end();
});
