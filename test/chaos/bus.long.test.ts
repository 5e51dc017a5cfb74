// Guards that a bus comes back from an outage of a minute, however long its pauses have become: a consumer that reads
// again at every marker ends complete.
import { createNotifyBus } from 'sluice';
import { expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { targetOf, through } from '../support/deaf-proxy.ts';
import { until } from '../support/diagnostics.ts';
import { Keeper, Numbers } from '../support/notices.ts';
import { createProxy } from '../support/proxy.ts';

const db = useDatabase({ allowOpenSessions: true });

test.each(['refused', 'black hole'])('I8: an outage of 60 s: %s', async (kind) => {
  using proxy = await createProxy(targetOf(db.connectionString));
  await using bus = createNotifyBus({ connectionString: through(proxy, db.connectionString) });
  const numbers = await Numbers.create(db.pool, kind);
  const keeper = new Keeper(await bus.subscribe(kind, { buffer: 20_000 }), numbers);
  await numbers.send(100);
  if (kind === 'refused') {
    proxy.refuse();
    proxy.cut();
  } else {
    proxy.pause();
  }
  for (let second = 0; second < 60; second += 1) {
    await db.query('select pg_sleep(1)');
    await numbers.send(1);
  }
  expect(bus.stats().state).toBe('reconnecting');
  await proxy.accept();
  proxy.resume();
  await until(() => keeper.complete && bus.generation > 1, { deadlineMs: 60_000 });
  await keeper.settled();
  expect(keeper.notices.unmarked(numbers.last)).toEqual([]);
  expect(keeper.known.size).toBe(numbers.last);
});
