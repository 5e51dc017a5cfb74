// Guards single interleavings that random histories would meet once in a long while: each is forced, step by step, with
// locks and held-up answers as the steps.
import { connect } from 'sluice';
import { expect, test } from 'vitest';
import { quick } from '../support/chaos.ts';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { targetOf, through } from '../support/deaf-proxy.ts';
import { until } from '../support/diagnostics.ts';
import { createProxy } from '../support/proxy.ts';
import { Reader } from '../support/readers.ts';
import { answered, notified, serverTime, waitingForLocks } from '../support/sessions.ts';

const db = useDatabase();

test('I1: a transaction that commits while a backlog is being cut is not cut itself', async () => {
  await using sluice = await connect({
    connectionString: db.connectionString,
    relay: false,
    fallbackPollMs: 600_000,
  });
  const stream = sluice.stream('backlog');
  await sluice.createStream('backlog');
  await using slow = await openClient(db.connectionString);
  await slow.query('begin');
  await stream.publish('first of two', { tx: slow });
  for (let part = 0; part < 3; part += 1) {
    await stream.publishMany(Array.from({ length: 300 }, (_, index) => ({ data: part * 300 + index })));
  }
  await stream.publish('second of two', { tx: slow });
  // A pass has decided where to cut, and meets this lock before it moves anything.
  await using gate = await openClient(db.connectionString);
  await gate.query('begin; lock table sluice.undeliverable in share mode');
  const passing = db.query('select * from sluice.pass(10)');
  await until(async () => (await waitingForLocks(db.pool)) > 0);
  await slow.query('commit');
  await gate.query('commit');
  await passing;
  await until(async () => (await db.query('select from sluice.pass(10) where moved > 0')).rowCount === 0);
  const { rows } = await db.query<{ place: number }>(
    `select "offset"::integer as place from sluice.events where data::text like '%of two%' order by 1`,
  );
  expect(rows.map(({ place }) => place)).toEqual([rows[0]!.place, rows[0]!.place + 1]);
});

test('I4: a notification that overtakes the first read of a subscription still wakes it', async () => {
  using proxy = await createProxy(targetOf(db.connectionString));
  await using sluice = await connect({
    connectionString: through(proxy, db.connectionString),
    listenConnectionString: db.connectionString,
    ...quick,
    relay: false,
    fallbackPollMs: 600_000,
  });
  const stream = sluice.stream('overtaken');
  await stream.append({ value: 'before' });
  await Promise.all([1, 2, 3].map(() => stream.read())); // enough connections are open
  const since = await serverTime(db.pool);
  proxy.pauseServerToClient();
  const reader = new Reader({ name: 'reader', stream: 'overtaken', after: 1n, sluice: () => sluice });
  // The server has answered its first read; the answer is on its way when something new comes in.
  await answered(db.pool, { application: 'sluice', text: '%trimmed_tag%', since });
  await db.query(`select sluice.append('overtaken', '{"value":"meanwhile"}')`);
  await notified(db.pool);
  proxy.resume();
  await until(() => reader.position === 2n);
  await reader.stop();
});
