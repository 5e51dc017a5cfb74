// Guards that nothing depends on transaction ids beyond their cluster: after a restore they are foreign, and occur again.
import { expect, test } from 'vitest';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { logOf, pass, publish } from '../support/log-sql.ts';

const db = useDatabase();

test('I3: rows whose transaction ids come from another cluster are moved once, in order', async () => {
  const xids = ['18446744073709551615', '3', '18446744073709551615', '9223372036854775808', '3'];
  for (const [index, xid] of xids.entries()) {
    await db.query(
      `insert into sluice.outbox (slot, xid, published_at, stream, data)
       values (0, $1::text::xid8, '2020-01-01', 'restored', $2)`,
      [xid, index],
    );
  }
  await publish(db, 'restored', 5);
  expect(await pass(db)).toMatchObject({ moved: 6, more: false });
  expect(await pass(db)).toMatchObject({ moved: 0, more: false });
  expect(await logOf(db, 'restored')).toEqual(['0', '2', '1', '4', '3', '5']);
});

test('I1: after a restore, a transaction that gets the id of an older one is not taken for it', async () => {
  await publish(db, 'same id', 1);
  await publish(db, 'same id', 2);
  await using client = await openClient(db.connectionString);
  await client.query('begin');
  await publish(client, 'same id', 3);
  await client.query(
    `update sluice.outbox set xid = pg_current_xact_id() where stream = 'same id' and data::text = '1'`,
  );
  await client.query('commit');
  await pass(db);
  expect(await logOf(db, 'same id')).toEqual(['1', '2', '3']);
});
