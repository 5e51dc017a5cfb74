// Guards interleavings 23 to 28 (docs/interleavings.md): orders of events, and shapes, in which plausible groups give up
// the wrong event, take a stale acknowledgement, wait for themselves, or slow down.
import { Pool, type PoolClient } from 'pg';
import { connect, type Sluice, type SluiceError, type Stream } from 'sluice';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';

const db = useDatabase({ allowOpenSessions: true });
let sluice: Sluice;
let pool: Pool;
beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString, fallbackPollMs: 200 });
  pool = new Pool({ connectionString: db.connectionString });
});
afterAll(async () => {
  await pool.end();
  await sluice.close();
});

const lost = expect.objectContaining({ code: 'lease_lost' satisfies SluiceError['code'] }) as Error;

async function filled(name: string, count: number): Promise<Stream<number>> {
  const stream = sluice.stream<number>(name);
  await stream.appendMany(Array.from({ length: count }, (_, n) => ({ data: n + 1, key: `key ${n % 50}` })));
  return stream;
}

/** As if the time of all leases were over. */
const expire = async (): Promise<void> => {
  await db.query(`update sluice.leases set expires_at = clock_timestamp()`);
};

test('I5: a crash counts against what was alone in its lease (interleaving 23)', async () => {
  const stream = await filled('crash', 5);
  const group = stream.group('g', { maxAttempts: 1 });
  const offsets = async (): Promise<bigint[]> => (await group.claim())?.events.map((e) => e.offset) ?? [];
  expect(await offsets()).toEqual([1n, 2n, 3n, 4n, 5n]);
  await expire(); // whoever had them is dead, and nobody knows of which
  expect(await offsets()).toEqual([1n]);
  await expire(); // it alone: it is given up
  const handled: bigint[] = [];
  for (let lease = await group.claim(); lease; lease = await group.claim()) {
    expect(lease.events.length).toBeLessThanOrEqual(2);
    handled.push(...lease.events.map(({ offset }) => offset));
    await lease.ack();
  }
  expect(handled).toHaveLength(4);
  expect(new Set(handled)).toEqual(new Set([2n, 3n, 4n, 5n]));
  const dead: bigint[] = [];
  for await (const { event } of group.deadLetters.list()) dead.push(event.offset);
  expect(dead).toEqual([1n]);
});

test('I5: a token never comes again (interleaving 24)', async () => {
  const stream = await filled('tokens', 3);
  const group = stream.group('g');
  const tokens = new Set<unknown>();
  for (let round = 0; round < 3; round += 1) {
    const lease = await group.claim();
    for (const { token } of (await db.query('select token::text from sluice.leases')).rows) tokens.add(token);
    await group.seek('start'); // as a crash that loses the commit of the claim
    const again = await group.claim();
    await expect(lease?.ack()).rejects.toEqual(lost);
    await again?.release();
    await group.seek('start');
  }
  expect(tokens.size).toBe(3);
  for (const token of tokens) expect(token).toMatch(/^[\da-f]{8}-[\da-f]{4}-4[\da-f]{3}-[89ab]/); // RFC 9562: random
});

test('I5: extending and acknowledging wait for no transaction that acknowledged; nobody takes its lease (interleaving 26)', async () => {
  const stream = await filled('beside', 2);
  const group = stream.group('g');
  const ending = new AbortController();
  const open = new Set<PoolClient>();
  let [extended, attempts, seen] = [0, 0, false];
  const consuming = group.consume(
    async (_event, { ack, extend }) => {
      attempts += 1;
      const client = await pool.connect();
      await client.query('begin');
      await ack({ tx: client });
      open.add(client);
      await until(() => open.size === 2); // side by side, under one lease
      await extend(60_000);
      extended += 1;
      await until(() => seen);
      await client.query('commit');
      client.release();
    },
    { concurrency: 2, signal: ending.signal },
  );
  await until(() => extended === 2);
  const { rows } = await db.query(`select count(*)::int as leases from sluice.leases l
    join sluice.groups g on g.id = l.group_id join sluice.streams s on s.id = g.stream_id where s.name = 'beside'`);
  expect(rows).toEqual([{ leases: 1 }]);
  await expire();
  expect(await group.claim()).toBeNull(); // while the transactions are open
  seen = true;
  await until(async () => (await group.stats()).lag === 0);
  ending.abort();
  await consuming;
  expect([extended, attempts]).toEqual([2, 2]);
});

test('claims and acknowledgements update no row that stays (interleaving 27)', async () => {
  const stream = await filled('shape', 40);
  const group = stream.group('g');
  await group.stats();
  const versions = async (): Promise<unknown> =>
    (
      await db.query(`select g.ctid, g.xmin from sluice.groups g join sluice.streams s on s.id = g.stream_id
       where s.name = 'shape'`)
    ).rows;
  const before = await versions();
  for (let n = 0; n < 20; n += 1) await (await group.claim({ max: 2 }))?.ack();
  expect(await versions()).toEqual(before);
  const { rows } = await db.query(`select t.seq::int, t."offset"::int from sluice.group_states t
    join sluice.groups g on g.id = t.group_id join sluice.streams s on s.id = g.stream_id where s.name = 'shape'`);
  expect(rows).toEqual([expect.objectContaining({ offset: 40 })]);
  expect((await group.stats()).lag).toBe(0);
});

test('one read deals the events out to all partitions (interleaving 28)', async () => {
  const stream = await filled('dealt', 400);
  const group = stream.group('g', { keyed: { partitions: 16 } });
  const lease = await group.claim({ max: 1 });
  expect(lease?.events).toHaveLength(1);
  expect(await group.stats()).toMatchObject({ cursor: 400n, lag: 400 });
  const { rows } =
    await db.query(`select count(*)::int as pieces, count(distinct p.partition)::int as partitions
    from sluice.pieces p join sluice.groups g on g.id = p.group_id join sluice.streams s on s.id = g.stream_id
    where s.name = 'dealt'`);
  const [{ pieces, partitions }] = rows as [{ pieces: number; partitions: number }];
  expect(partitions).toBeGreaterThan(10);
  expect(pieces).toBe(partitions);
});
