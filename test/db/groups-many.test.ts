// Guards groups that have much of something behind them (I5, I7): retries, events in flight, dead letters. What a statement
// costs is told in pages, never in time; and no statistics are gathered here, as autovacuum comes late after a burst.
import { connect, type Sluice, type Stream } from 'sluice';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';
import { fill } from '../support/filled.ts';

const db = useDatabase({ allowOpenSessions: true });
let sluice: Sluice;
beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString, fallbackPollMs: 200 });
  for (const table of ['pieces', 'leases', 'dead_letters', 'group_states'])
    await db.query(`alter table sluice.${table} set (autovacuum_enabled = off)`);
});
afterAll(async () => sluice.close());

const MANY = 20_000;
const AT_ONCE = { backoff: { initialMs: 1, maxMs: 1 } };

const filled = async (count: number): Promise<Stream<number>> => fill(sluice, count);

async function idOf(stream: Stream<number>): Promise<string> {
  const { rows } = await db.query<{ id: string }>(
    `select g.id::text from sluice.groups g join sluice.streams s on s.id = g.stream_id where s.name = $1`,
    [stream.name],
  );
  return rows[0]?.id ?? '';
}

/** Offsets that no stream here has come to. */
const ELSEWHERE = 1_000_000;

/** What went wrong with so many events from an offset on. */
const retriesWait = (
  id: string,
  count: number,
  from = ELSEWHERE,
  dueAt = `now() + interval '1 day'`,
): Promise<unknown> =>
  db.query(
    `insert into sluice.pieces (group_id, events, due_at, attempts, strikes, suspect, error)
     select $1, int8multirange(int8range(n, n + 1)), ${dueAt}, 1, 1, false, 'later'
     from generate_series($3::bigint, $3 + $2::bigint - 1) n`,
    [id, count, from],
  );

/** So many leases of one event each, from an offset on. */
const lease = (id: string, count: number, from: number, endsInMs: number): Promise<unknown> =>
  db.query(
    `insert into sluice.leases (token, n, group_id, member, open, attempts, strikes, suspect, claimed_at, expires_at)
     select gen_random_uuid(), 0, $1, gen_random_uuid(), int8multirange(int8range(n, n + 1)), 1, 0, false, now(),
       clock_timestamp() + $4 * interval '1 ms'
     from generate_series($3::bigint, $3 + $2::bigint - 1) n`,
    [id, count, from, endsInMs],
  );

/** All that a group has, in leases of one event each. */
async function handOut(id: string, count: number, endsInMs: number): Promise<void> {
  await lease(id, count, 1, endsInMs);
  await db.query('update sluice.group_states set "offset" = $2 where group_id = $1', [id, count]);
}

/** Pages that statements of one session read, found or not, after others that make the session ready. */
async function pagesOf(statements: readonly string[], before: readonly string[]): Promise<number> {
  await using client = await openClient(db.connectionString);
  await client.query('select setseed(0)'); // a claim may draw what it takes
  for (const statement of before) await client.query(`select * from ${statement}`);
  let pages = 0;
  for (const statement of statements) {
    const { rows } = await client.query<{ 'QUERY PLAN': [{ Plan: Record<string, number> }] }>(
      `explain (analyze, buffers, format json) select * from ${statement}`,
    );
    const plan = rows[0]?.['QUERY PLAN'][0].Plan ?? {};
    pages += (plan['Shared Hit Blocks'] ?? 0) + (plan['Shared Read Blocks'] ?? 0);
  }
  return pages;
}

/** Of a claim and its end: of what is due, then of what is new, then of a look at everything. */
async function pagesOfWork(id: string): Promise<number> {
  const since = Date.now() / 1000 - 60;
  const work = (from: number | null): string[] => {
    const token = crypto.randomUUID();
    return [
      `sluice.claim(${id}, '${token}', '${token}', 10, 1000000, 30000, 10, ${from})`,
      `sluice.settle('${token}', null)`,
    ];
  };
  return pagesOf([...work(since), ...work(since), ...work(null)], [...work(since), ...work(null)]);
}

/** Fails what the group has, which has been due again for a while: half of the claims then go to the log. */
async function fail(stream: Stream<number>, count: number): Promise<void> {
  const leased = await stream.group('g').claim({ max: count });
  await leased?.ack({ failed: leased.events.map(({ offset }) => ({ offset, error: 'not yet' })) });
  const late = `update sluice.pieces set due_at = now() - interval '30 s' where group_id = $1`;
  await db.query(late, [await idOf(stream)]);
}

describe('I7: without statistics, a claim and its end read as much beside very many', () => {
  let alone = 0;
  beforeAll(async () => {
    const stream = await filled(200);
    await fail(stream, 30);
    alone = await pagesOfWork(await idOf(stream));
  });

  test('retries that wait', async () => {
    const stream = await filled(200);
    await fail(stream, 30);
    await retriesWait(await idOf(stream), MANY);
    expect(await pagesOfWork(await idOf(stream))).toBeLessThan(alone + 250);
  });

  test('retries that are due, of which it takes some', async () => {
    const pagesOfDue = async (count: number): Promise<number> => {
      const stream = await filled(count);
      await stream.group('g').claim({ max: 1 });
      const id = await idOf(stream);
      await retriesWait(id, count, 1, `now() - interval '30 s'`);
      await db.query('update sluice.group_states set "offset" = $2 where group_id = $1', [id, count]);
      return pagesOfWork(id);
    };
    // Beside few of the same kind: where something is new as well, some of the claims take that, which costs less.
    const few = await pagesOfDue(200);
    const many = await pagesOfDue(MANY);
    expect(many).toBeLessThan(few + 150);
  });

  test('events in flight, each in a lease of its own', async () => {
    const stream = await filled(200);
    await fail(stream, 30);
    const id = await idOf(stream);
    await lease(id, MANY, ELSEWHERE, 3_600_000);
    expect(await pagesOfWork(id)).toBeLessThan(alone + 250);
  });

  test('dead letters, of which it requeues or drops some', async () => {
    const stream = await filled(MANY);
    await stream.group('g').claim({ max: 1 });
    const id = await idOf(stream);
    await db.query(
      `insert into sluice.dead_letters (group_id, "offset", attempts, at, tag, data)
       select $1, n, 1, now(), 1, '1' from generate_series(1, $2::bigint) n`,
      [id, MANY],
    );
    const some = (from: number): string =>
      `array(select n from generate_series(${from}::bigint, ${from + 90}, 10) n)`;
    const calls = ['requeue_dead', 'drop_dead'].flatMap((name, n) => [
      `sluice.${name}(${id}, ${some(10_000 + n)}, 500)`,
      `sluice.${name}(${id}, null, 10)`,
    ]);
    expect(await pagesOf(calls, calls)).toBeLessThan(600);
  });
});

test('I7: retries that are due by the thousand do not keep back what is new', async () => {
  const stream = await filled(2000);
  const group = stream.group('g');
  await fail(stream, 2000);
  await stream.append(-1);
  const order: number[] = [];
  await until(async () => {
    const lease = await group.claim({ max: 10 });
    order.push(...(lease?.events.map(({ data }) => data) ?? []));
    await lease?.ack();
    return lease === null;
  });
  expect(order.toSorted((a, b) => a - b)).toEqual([-1, ...Array.from({ length: 2000 }, (_, n) => n + 1)]);
  expect(order.indexOf(-1)).toBeLessThan(1000); // by chance, half of the claims: later once in 2¹⁰⁰ runs
});

test('I5: what was passed over for what is new is found without another look at everything', async () => {
  await using own = await connect({ connectionString: db.connectionString, fallbackPollMs: 600_000 });
  const stream = await filled(500);
  await fail(stream, 500);
  const more = Array.from({ length: 500 }, (_, n) => ({ data: 501 + n }));
  await stream.appendMany(more);
  const ending = new AbortController();
  const seen: number[] = [];
  const consuming = own
    .stream<number>(stream.name)
    .group('g')
    .consumeBatch(
      async (events) => {
        seen.push(...events.map(({ data }) => data));
        return Promise.resolve();
      },
      { maxBatch: 10, signal: ending.signal },
    );
  await until(() => seen.length === 1000);
  ending.abort();
  await consuming;
  expect(new Set(seen).size).toBe(1000);
});

describe('I5: leases that expire together', () => {
  test('are taken back one look after the other, and not one for each poll', async () => {
    await using own = await connect({ connectionString: db.connectionString, fallbackPollMs: 600_000 });
    const stream = await filled(3000);
    await stream.group('g').stats();
    await handOut(await idOf(stream), 3000, 1000);
    const ending = new AbortController();
    const seen = new Set<unknown>();
    const consuming = own
      .stream(stream.name)
      .group('g')
      .consume(
        async ({ data }) => {
          seen.add(data);
          return Promise.resolve();
        },
        { signal: ending.signal, leaseMs: 600_000, maxBatch: 100 },
      );
    await until(() => seen.size === 3000, { deadlineMs: 100_000 });
    ending.abort();
    await consuming;
    expect(await stream.group('g').stats()).toMatchObject({ lag: 0, inFlight: 0, retries: 0, dead: 0 });
  });

  const taken = async (
    count: number,
  ): Promise<{ stream: Stream<number>; lots: number[]; strikes: number }> => {
    const stream = await filled(count);
    const group = stream.group('g', AT_ONCE);
    await group.stats();
    await handOut(await idOf(stream), count, 0);
    const lots: number[] = [];
    let strikes = 0;
    for (let lease = await group.claim({ max: 1000 }); lease; lease = await group.claim({ max: 1000 })) {
      lots.push(lease.events.length);
      const { rows } = await db.query<{ strikes: number }>(
        `select sum(strikes)::integer as strikes from sluice.leases where group_id = $1`,
        [await idOf(stream)],
      );
      strikes += rows[0]?.strikes ?? 0;
      await lease.ack();
    }
    return { stream, lots, strikes };
  };

  test('a few of one event each are handed out by themselves, with a strike', async () => {
    expect(await taken(10)).toMatchObject({ lots: Array.from({ length: 10 }, () => 1), strikes: 10 });
  });

  test('many of one event each are handed out in halves, and none of them has a strike', async () => {
    expect(await taken(100)).toMatchObject({ lots: [50, 50], strikes: 0 });
  });

  test('one that is suspect is by itself again, among many that are not', async () => {
    const stream = await filled(101);
    const group = stream.group('g', AT_ONCE);
    await group.stats();
    await handOut(await idOf(stream), 101, 0);
    await db.query(
      `update sluice.leases set strikes = 1, suspect = true, attempts = 2 where group_id = $1 and open @> 7::bigint`,
      [await idOf(stream)],
    );
    const lots: number[][] = [];
    for (let lease = await group.claim({ max: 1000 }); lease; lease = await group.claim({ max: 1000 })) {
      lots.push(lease.events.map(({ data }) => data));
      await lease.ack();
    }
    expect(lots.map(({ length }) => length).toSorted((a, b) => a - b)).toEqual([1, 50, 50]);
    expect(lots.filter(({ length }) => length === 1)).toEqual([[7]]);
  });
});

test('I7: requeueing all dead letters ends, although they die again meanwhile, and takes each of them once', async () => {
  const stream = await filled(1600);
  const group = stream.group('g', { ...AT_ONCE, maxAttempts: 1 });
  const ending = new AbortController();
  let handled = 0;
  const consuming = group.consume(
    async () => {
      handled += 1;
      return Promise.reject(new Error('never'));
    },
    { concurrency: 50, signal: ending.signal },
  );
  const dead = async (): Promise<boolean> => (await group.stats()).dead === 1600;
  await until(dead);
  expect(await group.deadLetters.requeue()).toBe(1600);
  await until(dead);
  expect(handled).toBe(3200);
  ending.abort();
  await consuming;
  const offsets = Array.from({ length: 1200 }, (_, n) => BigInt(n + 1));
  expect(await group.deadLetters.drop({ offsets })).toBe(1200); // more than go in one statement
  expect(await group.deadLetters.drop({ offsets })).toBe(0);
  expect(await group.deadLetters.drop()).toBe(400);
});
