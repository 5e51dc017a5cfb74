// Guards what groups tell of themselves: the rate of the last minute whatever was before, the age of what is still there,
// and the depth of many streams in one statement.
import { connect, type Group, type Sluice, type Stream } from 'sluice';
import { Pool } from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { fill } from '../support/filled.ts';

const db = useDatabase();
let sluice: Sluice;
beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString });
});
afterAll(async () => sluice.close());

const take = async (group: Group<number>, max: number): Promise<void> => (await group.claim({ max }))?.ack();

describe('the rate is that of the last half to one minute', () => {
  /** As if the last claims had been so much longer ago. */
  const pass = async ({ name }: Stream<number>, seconds: number): Promise<void> => {
    await db.query(
      `update sluice.group_states t set mark_at = mark_at - $2 * interval '1 s', last_mark_at = last_mark_at - $2 * interval '1 s'
       from sluice.groups g join sluice.streams s on s.id = g.stream_id where g.id = t.group_id and s.name = $1`,
      [name, seconds],
    );
  };

  test('while it goes on, after it has ended, and when it begins again', async () => {
    const stream = await fill(sluice, 8000);
    const group = stream.group('g');
    const begun = performance.now();
    /** Within the time that the test itself has taken, and a hundredth. */
    const expectRate = async (events: number, seconds: number): Promise<void> => {
      const { rate } = await group.stats();
      expect(rate).toBeLessThan((events / seconds) * 1.01);
      expect(rate).toBeGreaterThan((events / (seconds + (performance.now() - begun) / 1000)) * 0.99);
    };
    await group.stats(); // which makes it
    await pass(stream, 20);
    await take(group, 2000);
    await expectRate(2000, 20);
    await pass(stream, 20);
    await expectRate(2000, 40);
    await take(group, 1000); // from here it is counted anew
    await expectRate(3000, 40);
    await pass(stream, 15);
    await expectRate(3000, 55);
    await pass(stream, 10);
    await expectRate(1000, 35);
    await pass(stream, 15);
    await expectRate(1000, 40);
    await pass(stream, 25);
    expect((await group.stats()).rate).toBe(0);
    await pass(stream, 3600);
    await take(group, 3000);
    await expectRate(3000, 60);
  });
});

test.each([
  [
    'waits to come again',
    async (group: Group<number>) => {
      const failed = [1n, 2n, 3n].map((offset) => ({
        offset,
        error: 'x',
        retryAt: new Date(Date.now() + 3_600_000),
      }));
      await (await group.claim({ max: 3 }))?.ack({ failed });
      await take(group, 100);
    },
  ],
  [
    'is in flight',
    async (group: Group<number>) => {
      await group.claim({ max: 3 });
      await take(group, 100);
    },
  ],
])('the age is that of the oldest event that is still there, where what was trimmed %s', async (_, begin) => {
  const stream = await fill(sluice, 5);
  const group = stream.group('g');
  await begin(group);
  await db.query(
    `update sluice.events e set at = now() - (10 - e."offset") * interval '1 h' from sluice.streams s where s.id = e.stream_id and s.name = $1`,
    [stream.name],
  );
  const hours = async (): Promise<number | null> => {
    const { oldestAgeMs } = await group.stats();
    return oldestAgeMs === null ? null : Math.round(oldestAgeMs / 3_600_000);
  };
  expect(await hours()).toBe(9);
  await stream.trim({ before: 3n });
  expect(await hours()).toBe(7);
  await stream.trim({ before: 4n });
  expect(await hours()).toBeNull(); // 4 and 5 are done
});

test('the age is that of the oldest event that waits, and not of one that is done between those that do', async () => {
  const stream = await fill(sluice, 120);
  const group = stream.group('g');
  const lease = await group.claim({ max: 100 });
  await take(group, 100);
  await db.query(`select sluice.settle(token, '{[3,100)}') from sluice.leases`);
  await lease?.release(); // 1, 2 and 100
  await db.query(
    `update sluice.events e set at = now() - (200 - e."offset") * interval '1 h' from sluice.streams s where s.id = e.stream_id and s.name = $1`,
    [stream.name],
  );
  await stream.trim({ before: 51n });
  const { oldestAgeMs } = await group.stats();
  expect(Math.round((oldestAgeMs ?? 0) / 3_600_000)).toBe(100);
});

test('the depth of many streams is one statement', async () => {
  const pool = new Pool({ connectionString: db.connectionString });
  let statements = 0;
  pool.on('connect', (client) => {
    const query = client.query.bind(client) as (...given: unknown[]) => unknown;
    const counted = (...given: unknown[]): unknown => {
      if (JSON.stringify(given[0]).includes('group_stats(')) statements += 1; // others are sent in the background
      return query(...given);
    };
    Object.assign(client, { query: counted });
  });
  await using counting = await connect({ pool, connectionString: db.connectionString, relay: false });
  await Promise.all(
    Array.from({ length: 30 }, async (_, n) => {
      const stream = sluice.stream<number>(`deep ${String(n).padStart(2, '0')}`);
      await stream.appendMany(Array.from({ length: n + 1 }, () => ({ data: 0 })));
      await take(stream.group('first'), 1);
      await stream.group('second').pause();
    }),
  );
  const found: unknown[] = [];
  for await (const { stream, name, lag, paused } of counting.groups())
    if (stream.startsWith('deep')) found.push([stream, name, lag, paused]);
  expect(statements).toBe(1);
  expect(found).toEqual(
    Array.from({ length: 30 }, (_, n) => `deep ${String(n).padStart(2, '0')}`).flatMap((stream, n) => [
      [stream, 'first', n, false],
      [stream, 'second', n + 1, true],
    ]),
  );
  await counting.close();
  await pool.end();
});
