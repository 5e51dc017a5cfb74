// Guards corners of the write path that plausible versions get wrong: what a role that may only append can send, what a
// pass meets beside a stream that is being made again or whose key somebody shares, and an idempotency key that is known
// on a stream that is closed.
import { connect } from 'sluice';
import { expect, test } from 'vitest';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { nextMessage } from '../support/diagnostics.ts';
import { logOf, pass, passAll, publish } from '../support/log-sql.ts';

const db = useDatabase();
const never = 600_000;

test.each([
  [`array['s'], array[0], '1', array[0]`, /the counts/],
  [`array['s'], array[-1], '1', array[0]`, /the counts/],
  [`array['s'], array[5], '1', array[0]`, /the counts/],
  [`array['s', 's', 's'], array[3, -2, 1], e'1\\u001e2', array[0, 0]`, /the counts/],
  [`array['s', 't'], array[1], '1', array[0]`, /the counts/],
  [`array['s'], array[1], '1', array[0], array[e'x\\ndata: forged']`, /event type [^]* is not valid/],
  [
    `array['s'], array[2], e'1\\u001e2', array[0, 0], array['x', e'x\\ndata: forged']`,
    /event type [^]* is not valid/,
  ],
  [
    `array['s'], array[2], e'1\\u001e2', array[0, 0], array[null, 'sluice:open']`,
    /event type [^]* is not valid/,
  ],
  [`array['s'], array[2], '1', array[0, 0]`, /null value/],
  // Where the stream is waited for, a single event is not taken apart.
  [`array['s'], array[1], e'1\\u001e2', array[0]`, /null value/, /invalid input syntax for type json/],
  [`array['s'], array[1], '1', array[0], p_idempotency_keys => array[repeat('x', 1000)]`, /idempotency key/],
])(
  'I1: append_batch(%s) is refused, and nothing is written',
  async (args, message, whenWaiting = message) => {
    await db.query(`insert into sluice.streams (name) values ('s') on conflict do nothing`);
    for (const [wait, expected] of [
      ['0', message],
      ['null', whenWaiting],
    ] as const) {
      await expect(
        db.query(`select * from sluice.append_batch(${args}, p_wait_ms => ${wait})`),
      ).rejects.toThrow(expected);
    }
    expect(await logOf(db, 's')).toEqual([]);
  },
);

test('a pass does not wait for a transaction that makes a deleted stream again', async () => {
  await using publisher = await openClient(db.connectionString);
  await using maker = await openClient(db.connectionString);
  await db.query(`select sluice.create_stream('again')`);
  await publisher.query('begin');
  await publish(publisher, 'again', 1);
  await db.query(`select sluice.delete_stream('again')`);
  await publisher.query('commit');
  await maker.query('begin');
  await maker.query(`select sluice.append('again', '2')`);
  await publish(db, 'beside', 3);
  await using impatient = await openClient(db.connectionString);
  await impatient.query(`set statement_timeout = '10s'`);
  expect(await pass(impatient)).toMatchObject({ moved: 1 });
  await maker.query('commit');
  await passAll(db);
  expect(await logOf(db, 'beside')).toEqual(['3']);
  expect(await logOf(db, 'again')).toEqual(['2']);
});

test('a known key on a closed stream that somebody holds is a duplicate, once it is free', async () => {
  await using sluice = await connect({
    connectionString: db.connectionString,
    relay: false,
    fallbackPollMs: never,
  });
  const first = await sluice.stream('shut').append(1, { idempotencyKey: 'k' });
  await db.query(`select sluice.close_stream('shut')`);
  await using holder = await openClient(db.connectionString);
  await holder.query('begin');
  await holder.query(`select from sluice.streams where name = 'shut' for no key update`);
  const sent = nextMessage('sluice:append.committed');
  const [again] = [
    sluice.stream('shut').append(1, { idempotencyKey: 'k' }),
    sluice.stream('other').append(1),
  ];
  await sent;
  await holder.query('commit');
  expect(await again).toEqual({ ...first, duplicate: true });
});

test('interleaving 7: who shares the key of a stream, as a foreign key of the user does, holds up neither passes nor appends', async () => {
  await publish(db, 'referred', 1);
  await passAll(db);
  await using holder = await openClient(db.connectionString);
  await holder.query('begin');
  await holder.query(`select from sluice.streams where name = 'referred' for key share`);
  await publish(db, 'referred', 2);
  expect(await pass(db)).toMatchObject({ moved: 1, more: false });
  for (const wait of ['0', '1000', 'null']) {
    const { rows } = await db.query(
      `select outcome from sluice.append_batch(array['referred'], array[1], '3', array[0], p_wait_ms => ${wait})`,
    );
    expect(rows).toEqual([{ outcome: 'ok' }]);
  }
  expect(await logOf(db, 'referred')).toHaveLength(5);
});
