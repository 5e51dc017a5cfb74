// Guards I4 where a pooler or proxy puts another server process behind the listener's connection, which stays: all
// statements are answered, and the LISTEN was somebody else's. The heartbeat finds out, and subscribers are told.
import { createNotifyBus } from 'sluice';
import { expect, test } from 'vitest';
import { targetOf, through } from '../support/deaf-proxy.ts';
import { useDatabase } from '../support/database.ts';
import { nextMessage } from '../support/diagnostics.ts';
import { SwappingProxy } from '../support/swapping-proxy.ts';

const db = useDatabase({ migrated: false });

test('I4: another server process behind the same connection is a new generation, with a gap in its place', async () => {
  using proxy = await new SwappingProxy(targetOf(db.connectionString)).listen();
  await using bus = createNotifyBus({
    connectionString: db.connectionString,
    listenConnectionString: through(proxy, db.connectionString),
    heartbeatMs: 50,
  });
  const subscription = await bus.subscribe('orders');
  const notices = subscription[Symbol.asyncIterator]();
  await bus.notify('orders', 'before');
  expect((await notices.next()).value).toMatchObject({ kind: 'message', payload: 'before' });
  const lost = nextMessage<{ error: Error }>('sluice:listener.lost');
  const back = nextMessage<{ generation: number }>('sluice:listener.connected');
  proxy.swap();
  const { error } = await lost;
  const { from, to } = proxy.swapped!;
  expect(to).not.toBe(from);
  expect(error).toMatchObject({
    code: 'connection_lost',
    message: `the server process behind the listener connection changed from ${from} to ${to}`,
  });
  expect((await back).generation).toBe(2);
  await bus.notify('orders', 'after');
  expect((await notices.next()).value).toEqual({ kind: 'gap', generation: 2 });
  expect((await notices.next()).value).toMatchObject({ kind: 'message', payload: 'after' });
  expect(bus.stats()).toMatchObject({ state: 'listening', generation: 2, reconnects: 1, missed: 0 });
});
