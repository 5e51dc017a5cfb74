// Guards single interleavings of groups that random histories meet once in a long while: each is forced, step by step.
// Numbers are those of docs/interleavings.md. What a statement costs is told in pages, never in time.
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { connect, type GroupOptions, type Sluice, type SluiceError, type Stream } from 'sluice';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';
import { fill } from '../support/filled.ts';

const db = useDatabase({ allowOpenSessions: true });
let sluice: Sluice;
beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString, fallbackPollMs: 200 });
  await db.query('create table effects (n integer)');
  // Plans are made with the statistics that a test takes, or with none.
  for (const table of TABLES) await db.query(`alter table sluice.${table} set (autovacuum_enabled = false)`);
});
afterAll(async () => sluice.close());

const TABLES = ['pieces', 'leases', 'group_states'];
const SOON = { backoff: { initialMs: 1, maxMs: 1 } };
const code = (wanted: SluiceError['code']): unknown => expect.objectContaining({ code: wanted });

const filled = async (count: number, keyOf?: (n: number) => string | undefined): Promise<Stream<number>> =>
  fill(sluice, count, keyOf);

/** Makes the leases of a stream end now, as if nobody had extended them. */
const endLeases = async ({ name }: Stream<number>): Promise<void> => {
  await db.query(
    `update sluice.leases l set expires_at = clock_timestamp() from sluice.groups g join sluice.streams s on s.id = g.stream_id
     where l.group_id = g.id and s.name = $1`,
    [name],
  );
};

test('interleaving 23: a crash at event 50 of a lease of 100 counts against none of those behind it', async () => {
  const stream = await filled(100);
  const group = stream.group('g', { maxAttempts: 3 });
  const strikes: number[] = [];
  const seen = new Map<number, number>();
  // Whoever is handed 50 dies with all it has: it never acknowledges, and its lease runs out.
  await until(
    async () => {
      const lease = await group.claim();
      if (!lease) return (await group.stats()).lag === 0;
      const numbers = lease.events.map(({ data }) => data);
      if (numbers.includes(50)) {
        strikes.push(numbers.length);
        await endLeases(stream);
        return false;
      }
      await lease.ack();
      for (const n of numbers) seen.set(n, (seen.get(n) ?? 0) + 1);
      return false;
    },
    { deadlineMs: 60_000 },
  );
  const dead: number[] = [];
  for await (const { event } of group.deadLetters.list()) dead.push(event.data);
  expect(dead).toEqual([50]);
  expect([...seen.values()]).toEqual(Array.from({ length: 99 }, () => 1));
  expect(strikes[0]).toBe(100);
  expect(strikes.slice(-3)).toEqual([1, 1, 1]); // alone, three times, by its own fault
});

test('interleaving 23: while an event that may have taken a consumer down is in hand, no other waits in a lease of its own', async () => {
  const stream = await filled(2);
  const group = stream.group('g', SOON);
  await group.claim({ max: 1 });
  await group.claim({ max: 1 });
  await endLeases(stream); // either of the two may have done it
  const [order, ending] = [[] as string[], new AbortController()];
  const onClaim = (message: unknown): void => {
    const { stream: name, events } = message as { stream: string; events: number };
    if (name === stream.name && events > 0) order.push(`claimed ${events}`);
  };
  subscribe('sluice:group.claimed', onClaim);
  await group.consume(
    async () => {
      order.push('begun');
      for (let times = 0; times < 5; times += 1) await db.query('select 1'); // as long as a claim takes, and longer
      order.push('done');
      if (order.length === 6) ending.abort();
    },
    { concurrency: 4, signal: ending.signal },
  );
  unsubscribe('sluice:group.claimed', onClaim);
  expect(order).toEqual(['claimed 1', 'begun', 'done', 'claimed 1', 'begun', 'done']);
});

test('interleaving 24: a token is random, and one that was never given is worth nothing', async () => {
  const stream = await filled(2);
  const group = stream.group('g');
  await group.claim({ max: 1 });
  await group.claim({ max: 1 });
  const { rows } = await db.query<{ token: string }>(
    'select token from sluice.leases order by claimed_at desc limit 2',
  );
  for (const { token } of rows) expect(token).toMatch(/^[\da-f]{8}-[\da-f]{4}-4/);
  expect(rows[0]?.token.slice(0, 8)).not.toBe(rows[1]?.token.slice(0, 8));
  const forged = '00000000-0000-4000-8000-000000000000';
  await expect(db.query('select sluice.settle($1, null)', [forged])).rejects.toThrow(/is over/);
  await expect(db.query(`select sluice.ack_events($1, '{[1,2)}')`, [forged])).rejects.toThrow(/is over/);
});

test('interleaving 25: where k@1 fails, k@2 and k@3 of the same lease wait for it', async () => {
  const stream = await filled(6, (n) => (n <= 3 ? 'k' : `other ${n}`));
  const ending = new AbortController();
  const done: number[] = [];
  const group = stream.group('g', { ...SOON, keyed: { partitions: 1 } });
  const consuming = group.consume(
    async ({ data }, { attempt }) => {
      if (data === 1 && attempt < 4) throw new Error('not yet');
      done.push(data);
      return Promise.resolve();
    },
    { concurrency: 6, signal: ending.signal },
  );
  await until(() => done.length === 6);
  ending.abort();
  await consuming;
  expect(done.filter((n) => n <= 3)).toEqual([1, 2, 3]);
  expect(done.indexOf(1)).toBeGreaterThan(0); // the others went on meanwhile
});

test('interleaving 26: a lease is extended while a handler acknowledges, and the other way round, without waiting', async () => {
  const stream = await filled(2);
  const group = stream.group('g');
  const lease = await group.claim({ leaseMs: 5000 });
  const token = (
    await db.query<{ token: string }>('select token from sluice.leases order by claimed_at desc limit 1')
  ).rows[0]?.token;
  await using handler = await openClient(db.connectionString);
  await handler.query(`set lock_timeout = '1ms'; begin`);
  await handler.query(`select sluice.ack_events($1, '{[1,2)}')`, [token]);
  await lease?.extend(60_000); // not held up by the open acknowledgement: it would be for ever, nobody commits
  await using other = await openClient(db.connectionString);
  await other.query('begin');
  await other.query('select sluice.settle($1, p_extend_ms => 60000)', [token]);
  await handler.query(`select sluice.ack_events($1, '{[2,3)}')`, [token]); // nor by the open extension
  await handler.query('commit');
  await other.query('commit');
  await db.query(`select sluice.settle($1, '{}', p_acked => '{[1,3)}')`, [token]);
  expect(await group.stats()).toMatchObject({ lag: 0, inFlight: 0 });
  // An acknowledgement that matches nothing raises, so that the effects are undone with it.
  await handler.query('begin; insert into effects values (26)');
  await expect(handler.query(`select sluice.ack_events($1, '{[1,2)}')`, [token])).rejects.toThrow(/is over/);
  await expect(handler.query('commit')).resolves.toMatchObject({ command: 'ROLLBACK' });
  expect((await db.query('select from effects where n = 26')).rowCount).toBe(0);
});

test('interleaving 26: what is acknowledged in a transaction open past the end of its lease is nobody else’s, and done after it', async () => {
  const stream = await filled(1);
  const group = stream.group('g', { maxAttempts: 1 });
  await using handler = await openClient(db.connectionString);
  await group.claim();
  const token = (
    await db.query<{ token: string }>('select token from sluice.leases order by claimed_at desc limit 1')
  ).rows[0]?.token;
  await handler.query('begin; insert into effects values (27)');
  await handler.query(`select sluice.ack_events($1, '{[1,2)}')`, [token]);
  await endLeases(stream); // which is not held up by the acknowledgement: it changes no key
  for (let times = 0; times < 3; times += 1) expect(await group.claim()).toBeNull();
  expect(await group.stats()).toMatchObject({ inFlight: 1, dead: 0 });
  await handler.query('commit');
  expect(await group.claim()).toBeNull(); // takes back what is left of the lease: nothing
  expect(await group.stats()).toMatchObject({ lag: 0, inFlight: 0, dead: 0 });
  expect((await db.query('select from effects where n = 27')).rowCount).toBe(1);
  expect((await db.query('select from sluice.acks')).rowCount).toBe(0);
});

test('interleaving 26: where such a transaction is undone instead, the event comes again', async () => {
  const stream = await filled(1);
  const group = stream.group('g');
  await using handler = await openClient(db.connectionString);
  const lease = await group.claim({ leaseMs: 3000 });
  await handler.query('begin');
  await lease?.ack({ tx: handler });
  await until(async () => {
    const { rows } = await db.query<{ now: Date }>('select clock_timestamp() as now');
    return (rows[0]?.now ?? new Date(Number.NaN)) > (lease?.expiresAt ?? new Date(Number.NaN));
  });
  expect(await group.claim()).toBeNull();
  await handler.query('rollback');
  const again = await group.claim();
  expect(again?.attempt(1n)).toBe(2);
});

test('interleaving 26: a transaction whose acknowledgement was refused cannot commit its effects', async () => {
  const stream = await filled(1);
  const group = stream.group('g');
  await using handler = await openClient(db.connectionString);
  const stale = await group.claim();
  await endLeases(stream);
  expect(await group.claim()).not.toBeNull();
  await handler.query('begin; insert into effects values (28)');
  await expect(stale?.ack({ tx: handler })).rejects.toEqual(code('lease_lost'));
  await expect(handler.query('commit')).resolves.toMatchObject({ command: 'ROLLBACK' });
  expect((await db.query('select from effects where n = 28')).rowCount).toBe(0);
});

/** Pages that claims and acknowledgements of one event each read, found or not: the median of a few. */
async function pagesOfOne(group: string): Promise<number> {
  await using client = await openClient(db.connectionString);
  const pagesOf = async (call: string): Promise<number> => {
    const { rows } = await client.query<{ 'QUERY PLAN': [{ Plan: Record<string, number> }] }>(
      `explain (analyze, buffers, format json) select * from ${call}`,
    );
    const plan = rows[0]?.['QUERY PLAN'][0].Plan ?? {};
    return (plan['Shared Hit Blocks'] ?? 0) + (plan['Shared Read Blocks'] ?? 0);
  };
  const pages: number[] = [];
  for (let times = 0; times < 6; times += 1) {
    const token = crypto.randomUUID();
    const claimed = await pagesOf(claimOfOne(group, token));
    pages.push(claimed + (await pagesOf(`sluice.settle('${token}', null)`)));
  }
  return pages.slice(1).toSorted((a, b) => a - b)[2] ?? Number.NaN; // the first reads what a session reads once
}

const claimOfOne = (group: string, token: string): string =>
  `sluice.claim(${group}, '${token}', '${token}', 1, 1000000, 30000, 10, extract(epoch from clock_timestamp()))`;

/** Claims an event, which fails and is due again at once, or is done. */
async function handleOne(group: string, fails: boolean): Promise<void> {
  const token = crypto.randomUUID();
  const { rows } = await db.query<{ offset: string }>(
    `select coalesce(first_offset, (offsets::bigint[])[1])::text as offset from ${claimOfOne(group, token)}`,
  );
  const failed = fails ? [rows[0]?.offset] : [];
  await db.query(
    `select * from sluice.settle($1::uuid, null, p_failed => $2::bigint[], p_errors => $3::text[],
       p_retry_at => $4::timestamptz[], p_max_attempts => 1000, p_initial_ms => 1, p_max_ms => 1)`,
    [token, failed, failed.map(() => 'x'), failed.map(() => null)],
  );
}

/** What failed within the last second is looked at, the more of it the faster the machine is: none of that is left. */
async function lastSecondIsOver(group: string): Promise<void> {
  const retries = `select from sluice.pieces where group_id = $1 and due_at > 'epoch'`;
  while (((await db.query(retries, [group])).rowCount ?? 0) > 0) await handleOne(group, false);
  const { rows } = await db.query<{ at: string }>(`select clock_timestamp()::text as at`);
  const over = `select where clock_timestamp() > $1::timestamptz + interval '1 s'`;
  await until(async () => (await db.query(over, [rows[0]?.at])).rowCount === 1);
}

/** Statistics of a moment in which nothing was in hand or waited: to them, a group's pieces are one row in any index. */
async function takeQuietStatistics(): Promise<void> {
  await using client = await openClient(db.connectionString);
  await client.query('begin; delete from sluice.pieces; delete from sluice.leases');
  await client.query(`analyze ${TABLES.map((table) => `sluice.${table}`).join(', ')}`);
  await client.query('rollback'); // how many rows there are is written for good
}

interface Behind {
  /** One partition is not given back. */
  readonly hold?: boolean;
  /** Every fifth event fails, and is due again at once. */
  readonly failing?: boolean;
  /** Whether plans are made with statistics of a quiet moment; else with none. */
  readonly quiet: boolean;
}

/** Pages of one before and after a thousand claims behind a held snapshot. */
async function pagesBehindSnapshot(
  options: GroupOptions,
  { hold = false, failing = false, quiet }: Behind,
): Promise<{ before: number; after: number }> {
  const stream = await filled(4000, (n) => `key ${n % 50}`);
  const group = stream.group('g', options);
  await group.claim({ max: 1 }).then(async (lease) => lease?.ack());
  const { rows } = await db.query<{ id: string }>(
    `select g.id::text from sluice.groups g join sluice.streams s on s.id = g.stream_id where s.name = $1`,
    [stream.name],
  );
  const id = rows[0]?.id ?? '';
  if (quiet) await takeQuietStatistics();
  const before = await pagesOfOne(id);
  if (hold) await group.claim({ max: 1, leaseMs: 600_000 });
  await using snapshot = await openClient(db.connectionString);
  await snapshot.query('begin isolation level repeatable read; select pg_current_xact_id()');
  for (let times = 0; times < 1000; times += 1) await handleOne(id, failing && times % 5 === 0);
  if (failing) await lastSecondIsOver(id);
  // The versions that the snapshot keeps are in all three; what one of them meets by chance, a vacuum say, is not.
  const after = [await pagesOfOne(id), await pagesOfOne(id), await pagesOfOne(id)];
  return { before, after: Math.min(...after) };
}

describe.each([
  ['without statistics', { quiet: false }],
  ['with those of a quiet moment', { quiet: true }],
])('interleaving 27: behind a held snapshot, plans made %s', (_, statistics) => {
  const timeout = 120_000;
  const keyed = { keyed: { partitions: 16 } };

  test('claims and acknowledgements cost what they cost before', { timeout }, async () => {
    const { before, after } = await pagesBehindSnapshot({}, statistics);
    expect(after).toBeLessThan(before + 20); // an updated row would add one each time, a thousand
  });

  test('in keyed groups, too, where each claim takes a part of what was dealt out', { timeout }, async () => {
    const { before, after } = await pagesBehindSnapshot(keyed, statistics);
    expect(after).toBeLessThan(before + 100);
  });

  test('there also while one partition stands still, and all the others go on', { timeout }, async () => {
    const { before, after } = await pagesBehindSnapshot(keyed, { ...statistics, hold: true });
    expect(after).toBeLessThan(before + 500); // up to a hundred claims, each looked at a few times
  });

  test('there also where every fifth event fails', { timeout }, async () => {
    const { before, after } = await pagesBehindSnapshot(keyed, { ...statistics, failing: true });
    expect(after).toBeLessThan(before + 100); // what ever failed of the partition, looked at a few times
  });
});

test('I6 I7: of more than a thousand leases the state of a keyed group does not tell, and who has a partition is known all the same', async () => {
  const stream = await filled(1200, (n) => `key ${n % 50}`);
  const group = stream.group('g', { keyed: { partitions: 4 } });
  await group.claim({ max: 1 }).then(async (lease) => lease?.ack());
  const { rows } = await db.query<{ id: string }>('select max(id)::text as id from sluice.groups');
  const id = rows[0]?.id ?? '';
  const claim = (times: number): Promise<unknown> =>
    db.query(
      `select count(*) from generate_series(1, $2) n cross join lateral
         sluice.claim($1, gen_random_uuid(), '00000000-0000-4000-8000-000000000001', 1, 1000000, 30000, 10, n) c`,
      [id, times],
    );
  const told = async (): Promise<number | null> => {
    const state = await db.query<{ leases: number | null }>(
      'select cardinality(held) as leases from sluice.group_states where group_id = $1 order by seq desc limit 1',
      [id],
    );
    return state.rows[0]?.leases ?? null;
  };
  await claim(1000);
  expect(await told()).toBe(1000);
  await claim(1);
  expect(await told()).toBeNull();
  await claim(1);
  expect(await told()).toBeNull();
  expect(await group.claim()).toBeNull(); // all partitions are with somebody else
});

test('interleaving 25: what failed in a transaction that commits late is not overtaken by its key', async () => {
  const stream = await filled(4, () => 'k');
  const group = stream.group('g', { keyed: { partitions: 1 } });
  const lease = await group.claim({ max: 2 });
  const { rows } = await db.query<{ id: string }>('select max(id)::text as id from sluice.groups');
  const id = rows[0]?.id ?? '';
  // 1 was due again a minute ago by the clock of its transaction, 3 is due by what another one said since.
  await lease?.ack({
    failed: [
      { offset: 1n, error: 'x' },
      { offset: 2n, error: 'x' },
    ],
  });
  await db.query(
    `update sluice.pieces set due_at = clock_timestamp() - case first_offset when 1 then interval '60 s' else interval '1 ms' end
     where group_id = $1 and key_hash is not null`,
    [id],
  );
  await db.query(
    `update sluice.group_states set due_low = clock_timestamp() - interval '1 s' where group_id = $1`,
    [id],
  );
  const token = crypto.randomUUID();
  const { rows: claimed } = await db.query<{ offsets: string | null }>(
    `select offsets from ${claimOfOne(id, token)}`,
  );
  expect(claimed[0]?.offsets).toBeNull(); // neither 2, which was found, nor what comes after it
  const again = await group.claim(); // which looks at everything
  expect(again?.events.map(({ data }) => data)[0]).toBe(1);
});

test('interleaving 25: what went back in pieces that overlap is handed out in the order of its key', async () => {
  const stream = await filled(4, (n) => (n % 2 === 0 ? 'k' : `other ${n}`));
  const group = stream.group('g', { keyed: { partitions: 1 } });
  await group.claim();
  const { rows } = await db.query<{ token: string }>(
    'select token from sluice.leases order by claimed_at desc limit 1',
  );
  // 1 and 4 were not begun; who had 2 and 3 in hand dies.
  await db.query(`select sluice.settle($1, '{}', '{[1,2),[4,5)}')`, [rows[0]?.token]);
  await endLeases(stream);
  const order: number[] = [];
  await until(async () => {
    const lease = await group.claim();
    order.push(...(lease?.events.map(({ data }) => data) ?? []));
    await lease?.ack();
    return order.length === 4;
  });
  expect(order.filter((n) => n % 2 === 0)).toEqual([2, 4]);
});

test('I5: handlers in as many transactions as there are connections do not keep their leases from being extended', async () => {
  const stream = await filled(20);
  await using own = await connect({ connectionString: db.connectionString });
  const ending = new AbortController();
  const attempts: number[] = [];
  let isExtended = false;
  const consuming = own
    .stream<number>(stream.name)
    .group('crowded', SOON)
    .consume(
      async ({ data }, { attempt, transaction }) => {
        await transaction(async (tx) => {
          await tx.query('insert into effects values ($1)', [1000 + data]);
          // On a connection of its own it sees whether somebody has prolonged the lease since it was taken.
          await until(async () => {
            const { rowCount } = await db.query(
              `select from sluice.leases where expires_at > claimed_at + interval '650 ms'`,
            );
            isExtended ||= (rowCount ?? 0) > 0;
            return isExtended;
          });
        });
        attempts.push(attempt);
      },
      { concurrency: 20, leaseMs: 600, signal: ending.signal },
    );
  await until(() => attempts.length === 20);
  ending.abort();
  await consuming;
  expect((await db.query('select from effects where n > 1000')).rowCount).toBe(20);
});

test('I5: an event acknowledged in vain comes again when it is due, and not with the next poll', async () => {
  await using own = await connect({ connectionString: db.connectionString, fallbackPollMs: 600_000 });
  const stream = await filled(1);
  const ending = new AbortController();
  const attempts: number[] = [];
  const consuming = own
    .stream(stream.name)
    .group('g', SOON)
    .consume(
      async (_event, { attempt, ack }) => {
        attempts.push(attempt);
        if (attempt > 1) return;
        await using handler = await openClient(db.connectionString);
        await handler.query('begin');
        await ack({ tx: handler });
        await handler.query('rollback');
      },
      { signal: ending.signal },
    );
  await until(() => attempts.length === 2);
  ending.abort();
  await consuming;
});
