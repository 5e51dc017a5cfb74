// Guards what meets in a group at work (I5): a throttle, a breaker and a pause; a seek among busy consumers; a handler whose
// lease is lost; requeueing what was sought; an abort in the middle of a claim. With polls a minute apart, what is not told is not found.
import { connect, type ConsumeOptions, type GroupOptions, type Sluice, type Stream } from 'sluice';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { fill } from '../support/filled.ts';
import { upTo } from '../support/up-to.ts';

const db = useDatabase({ allowOpenSessions: true });
let [here, there]: Sluice[] = [];
beforeAll(async () => {
  const options = { connectionString: db.connectionString, fallbackPollMs: 60_000 };
  [here, there] = await Promise.all([connect(options), connect(options)]);
});
afterAll(async () => Promise.all([here?.close(), there?.close()]));

const filled = async (count: number): Promise<Stream<number>> =>
  fill(here as Sluice, count, (n) => `key ${n % 20}`);
/** Until a call of that function waits for a lock. */
const isWaiting = async (name: string): Promise<void> =>
  until(async () => {
    const { rowCount } = await db.query(
      `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like '%.' || $1 || '(%'`,
      [name],
    );
    return rowCount === 1;
  });
const SOON = { backoff: { initialMs: 1, maxMs: 20 }, maxAttempts: 1000 };
const kinds: [string, GroupOptions][] = [
  ['a group', SOON],
  ['a keyed group', { ...SOON, keyed: { partitions: 8 } }],
];

describe.each(kinds)('%s', (_, options) => {
  test('I5: one member pauses for its failures, the group is paused and goes on, all of it throttled', async () => {
    const stream = await filled(60);
    const group = stream.group('g', options);
    const ending = new AbortController();
    const done = new Set<number>();
    const consume: ConsumeOptions = { throttle: { perSecond: 200 }, concurrency: 2, signal: ending.signal };
    const broken = nextMessage('sluice:group.paused');
    const failing = group.consume(async () => Promise.reject(new Error('down')), {
      ...consume,
      breaker: { failures: 2, pauseMs: options.keyed ? 200 : 86_400_000 },
    });
    await broken;
    let pausing: Promise<unknown> | undefined;
    const sound = there!
      .stream<number>(stream.name)
      .group('g', options)
      .consume(async ({ data }) => {
        done.add(data);
        if (done.size >= 20) await (pausing ??= group.pause());
      }, consume);
    await until(async () => {
      const { paused, inFlight } = await group.stats();
      return paused && inFlight === 0;
    });
    expect(done.size).toBeLessThan(60);
    await group.resume();
    await until(async () => (await group.stats()).lag === 0);
    ending.abort();
    await Promise.all([failing, sound]);
    expect([...done].toSorted((a, b) => a - b)).toEqual(upTo(60));
  });

  test('I5: sought back and forth under busy consumers, it ends by handling all that comes after the last seek', async () => {
    const stream = await filled(400);
    const group = stream.group('g', options);
    const ending = new AbortController();
    const seen = new Set<number>();
    const consuming = [here, there].map(async (sluice) =>
      sluice!
        .stream<number>(stream.name)
        .group('g', options)
        .consume(
          async ({ data }, { attempt }) => {
            await new Promise(setImmediate);
            if (data % 7 === 0 && attempt === 1) throw new Error('again');
            seen.add(data);
          },
          { concurrency: 4, signal: ending.signal },
        ),
    );
    for (const to of ['end', 'start', 'end', 'start'] as const) {
      if (to === 'end') await until(() => seen.size > 40);
      await group.seek(to);
      seen.clear();
    }
    await until(async () => (await group.stats()).lag === 0);
    ending.abort();
    await Promise.all(consuming);
    expect(await group.stats()).toMatchObject({ dead: 0, retries: 0, inFlight: 0 });
    expect([...seen].toSorted((a, b) => a - b)).toEqual(upTo(400));
  });

  test('I5: what it is to hand out again for a seek is not handed out twice for being requeued', async () => {
    const stream = await fill(here as Sluice, 6, String);
    const group = stream.group('g', { ...options, maxAttempts: 1 });
    const giveUp = async (max: number): Promise<void> => {
      const lease = await group.claim({ max });
      await lease?.ack({ failed: lease.events.map(({ offset }) => ({ offset, error: 'x' })) });
    };
    await giveUp(6);
    await group.seek('start');
    await (await group.claim({ max: 1 }))?.ack(); // 1 is done, and its letter stays
    const held = await group.claim({ max: 1 }); // 2 is in hand
    await (await group.claim({ max: 1 }))?.release(); // 3 waits; 4 to 6 come next
    const before = await group.stats();
    expect(before).toMatchObject({ dead: 6, lag: 5 });
    expect(await group.deadLetters.requeue()).toBe(6);
    expect(await group.stats()).toMatchObject({ dead: 0, lag: 6 });
    const handed = [...(held?.events.map(({ data }) => data) ?? [])];
    await held?.ack();
    for (let lease = await group.claim(); lease; lease = await group.claim()) {
      handed.push(...lease.events.map(({ data }) => data));
      await lease.ack();
    }
    expect(handed.toSorted((a, b) => a - b)).toEqual(upTo(6));
    await group.seek('end');
    expect(await group.stats()).toMatchObject({ lag: 0 });
  });

  test('I5: what is in hand again for a seek, and given up while it is requeued, is handed out', async () => {
    const stream = await fill(here as Sluice, 1, String);
    const group = stream.group('g', { ...options, maxAttempts: 1 });
    const giveUp = { failed: [{ offset: 1n, error: 'x' }] };
    await (await group.claim())?.ack(giveUp);
    await group.seek('start');
    await group.claim();
    const { rows } = await db.query<{ token: string; id: string; partition: number | null }>(
      `select l.token, l.group_id::text as id, l.partition from sluice.leases l join sluice.groups g on g.id = l.group_id
       join sluice.streams s on s.id = g.stream_id where s.name = $1`,
      [stream.name],
    );
    const { token, id, partition } = rows[0]!;
    // Requeueing has looked up what is in hand, and is to write now.
    await using holder = await openClient(db.connectionString);
    await holder.query('begin; lock table sluice.pieces in share mode');
    const requeued = group.deadLetters.requeue({ offsets: [1n] });
    await isWaiting('requeue_dead');
    // Of a settlement, what touches no pieces.
    await db.query(
      `with gone as (delete from sluice.leases where token = $1)
       select sluice.fail_event($2, 1, 1, 0, $3, 'x', null, 1, 1, 1)`,
      [token, id, partition],
    );
    await holder.query('commit');
    expect(await requeued).toBe(1);
    expect(await group.stats()).toMatchObject({ dead: 0, lag: 1 });
    expect((await group.claim())?.events).toMatchObject([{ data: 1 }]);
  });

  test('I5: a seek and a settlement that wait for each other: one of them is to try again', async () => {
    const stream = await fill(here as Sluice, 3, () => 'one key');
    const group = stream.group('g', options);
    const lease = await group.claim();
    await stream.trim({ before: 3n });
    await using holder = await openClient(db.connectionString);
    await holder.query('begin');
    await holder.query(
      `select from sluice.groups g join sluice.streams s on s.id = g.stream_id where s.name = $1 for update of g`,
      [stream.name],
    );
    const seeking = group.seek('start');
    seeking.catch(() => {});
    await isWaiting('seek_group');
    const settling = lease!.ack({ failed: [{ offset: 1n, error: 'x' }] }); // 1 is missed, which the group keeps
    settling.catch(() => {});
    await isWaiting('settle');
    await holder.query('commit');
    const [sought, settled] = await Promise.allSettled([seeking, settling]);
    const refused = { status: 'rejected', reason: { code: 'overloaded', retryable: true } };
    expect([sought, settled].filter(({ status }) => status === 'rejected')).toMatchObject([refused]);
    if (sought.status === 'rejected') await group.seek('start');
    else await expect(lease!.ack()).rejects.toMatchObject({ code: 'lease_lost' });
    expect((await group.claim())?.events).toMatchObject([{ data: 3 }]);
  });
});

test('I5: who extends a lease that was lost, or acknowledges under it, is refused and told to stop', async () => {
  const stream = await filled(1);
  const group = stream.group('g');
  const ending = new AbortController();
  const refused: unknown[] = [];
  const note = (error: { code?: unknown }): void => void refused.push(error.code);
  let calls = 0;
  const consuming = group.consume(
    async (_event, { extend, transaction, signal }) => {
      if ((calls += 1) > 1) return;
      await group.seek('start');
      await extend(1000).catch(note);
      refused.push(signal.aborted);
      await transaction(async () => Promise.resolve()).catch(note);
    },
    { signal: ending.signal },
  );
  await until(async () => (await group.stats()).lag === 0);
  ending.abort();
  await consuming;
  expect(refused).toEqual(['lease_lost', true, 'lease_lost']);
  expect(calls).toBe(2);
});

test('I11: claims that are aborted while they are under way leave nothing leased', async () => {
  const stream = await filled(200);
  const group = stream.group('g');
  await group.stats();
  const taken: number[] = [];
  for (let n = 0; n < 100; n += 1) {
    const ending = new AbortController();
    const claiming = group.claim({ max: 1, leaseMs: 86_400_000, signal: ending.signal });
    if (n % 3 === 0) ending.abort();
    else if (n % 3 === 1) setImmediate(() => ending.abort());
    const lease = await claiming.catch(() => null);
    taken.push(...(lease?.events.map(({ data }) => data) ?? []));
    await lease?.ack();
  }
  await until(async () => {
    // What is under way yet gives back what it takes.
    for (let lease = await group.claim(); lease; lease = await group.claim()) {
      taken.push(...lease.events.map(({ data }) => data));
      await lease.ack();
    }
    return (await group.stats()).lag === 0;
  });
  expect(taken.toSorted((a, b) => a - b)).toEqual(upTo(200));
});
