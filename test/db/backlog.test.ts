// Guards that a pass stays bounded, however much waits: it holds its streams until it ends.
import { expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { logOf, pass, passAll } from '../support/log-sql.ts';

const db = useDatabase();

test('I7: a pass ends after some streams where all of them have long backlogs, and the next one goes on there', async () => {
  const streams = Array.from({ length: 40 }, (_, n) => `long ${String(n).padStart(2, '0')}`);
  const values = Array.from({ length: 30 }, (_, n) => String(n));
  for (const stream of streams) {
    await db.query('select sluice.publish_many($1, $2)', [stream, values.join('\u001e')]);
  }
  expect(await pass(db, { limit: 20 })).toMatchObject({ moved: 300, more: true, next: 'long 09' });
  expect(await pass(db, { limit: 20, after: 'long 09' })).toMatchObject({ moved: 300, next: 'long 19' });
  expect(await passAll(db, { limit: 20 })).toBe(600);
  for (const stream of streams) expect(await logOf(db, stream)).toEqual(values);
});

test('I7: a pass makes a bounded number of streams, each of which takes a lock that all of the cluster have room for', async () => {
  await db.query(`select sluice.publish('made ' || n, '1') from generate_series(1, 700) n`);
  expect(await pass(db)).toMatchObject({ moved: 500, more: true });
  expect(await pass(db)).toMatchObject({ moved: 200, more: false });
});
