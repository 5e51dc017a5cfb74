// Guards leases whose end was told, while the answer to that is late or lost: nobody calls them lost (I5).
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { connect, type GroupOptions } from 'sluice';
import { expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';
import { createProxy, type Proxy } from '../support/proxy.ts';

const db = useDatabase({ allowOpenSessions: true });

let made = 0;

/**
 * Has two events handled one after the other. From the end of the first one's handler on, answers do not arrive before
 * `mend` has resolved. Returns how many leases were said to be lost, and the attempts at which the events were done.
 */
async function consumeTwo(
  mend: (proxy: Proxy) => Promise<void>,
  options: GroupOptions = {},
): Promise<{ lost: number; attempts: Map<number, number> }> {
  const through = new URL(db.connectionString);
  using proxy = await createProxy({ targetPort: Number(through.port) });
  through.host = `${proxy.host}:${proxy.port}`;
  await using sluice = await connect({ connectionString: String(through), fallbackPollMs: 600_000 });
  const stream = sluice.stream<number>(`answered ${(made += 1)}`);
  await sluice.createStream(stream.name);
  await stream.appendMany([1, 2].map((data) => ({ data, key: `key ${data}` })));
  let lost = 0;
  const count = (): void => void (lost += 1);
  subscribe('sluice:group.lost', count);
  const attempts = new Map<number, number>();
  const group = stream.group('g', options);
  await Promise.all([1, 2, 3].map(async () => group.stats())); // connections: none is made while answers are held
  const ending = new AbortController();
  const consuming = group.consume(
    async ({ data }, { attempt }) => {
      if (data === 1) proxy.pauseServerToClient();
      attempts.set(data, attempt);
      return Promise.resolve();
    },
    { maxBatch: 1, leaseMs: 6000, signal: ending.signal },
  );
  await until(() => attempts.has(1));
  await mend(proxy);
  await until(() => attempts.has(2));
  ending.abort();
  await consuming; // all is told, and answered
  unsubscribe('sluice:group.lost', count);
  return { lost, attempts };
}

/** Whether the last statement of some session of a consumer that has ended is such a call. */
const hasRun = (call: string): Promise<void> =>
  until(async () => {
    const { rowCount } = await db.query(
      `select from pg_stat_activity where datname = current_database() and application_name = 'sluice'
         and state = 'idle' and query like $1`,
      [`%.${call}(%`],
    );
    return (rowCount ?? 0) > 0;
  });

const isTold = (): Promise<void> =>
  until(async () => (await db.query(`select from sluice.leases where open @> 1::bigint`)).rowCount === 0);

test('I5: a lease that a late claim has ended is not called lost when it is told once more', async () => {
  const { lost, attempts } = await consumeTwo(async (proxy) => {
    await hasRun('settle'); // which comes after a third of the lease, and finds none
    proxy.resume();
  });
  expect(lost).toBe(0);
  expect(attempts.get(2)).toBe(1);
});

test('I5: nor is one that was ended by a claim whose answer got lost', async () => {
  const { lost } = await consumeTwo(async (proxy) => {
    await isTold();
    proxy.cut();
    proxy.resume();
  });
  expect(lost).toBe(0);
});

test('I5: nor one whose end was told in an answer that got lost', async () => {
  const { lost } = await consumeTwo(
    async (proxy) => {
      await isTold();
      proxy.cut();
      proxy.resume();
    },
    { keyed: { partitions: 4 } },
  );
  expect(lost).toBe(0);
});
