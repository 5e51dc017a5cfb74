// Guards groups at work (I5): what is handed out, again, and no more; acknowledged, failed, given up, moved and ended.
import {
  connect,
  type Sluice,
  type SluiceError,
  type StandardSchemaV1,
  type Stream,
  type StreamEvent,
} from 'sluice';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { fill } from '../support/filled.ts';
import { upTo } from '../support/up-to.ts';

const db = useDatabase({ allowOpenSessions: true });
let sluice: Sluice;
beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString, fallbackPollMs: 200 });
});
afterAll(async () => sluice.close());

const filled = async (count: number, keyOf?: (n: number) => string | undefined): Promise<Stream<number>> =>
  fill(sluice, count, keyOf);
const dataOf = (events: readonly StreamEvent[] | undefined): unknown[] | undefined =>
  events?.map(({ data }) => data);
const code = (wanted: SluiceError['code']): unknown => expect.objectContaining({ code: wanted });

describe('claim', () => {
  test('I5: each event is handed out once; null when nothing is there', async () => {
    const group = (await filled(5)).group('g');
    const first = await group.claim({ max: 3 });
    const second = await group.claim({ max: 3 });
    expect(dataOf(first?.events)).toEqual([1, 2, 3]);
    expect(dataOf(second?.events)).toEqual([4, 5]);
    expect(await group.claim()).toBeNull();
    expect(await group.stats()).toMatchObject({ cursor: 5n, lag: 5, inFlight: 5 });
    await first?.ack();
    await second?.ack();
    const settled = { cursor: 5n, lag: 0, inFlight: 0, retries: 0, dead: 0, missed: 0, oldestAgeMs: null };
    expect(await group.stats()).toMatchObject(settled);
  });

  test('I5: groups do not know of each other; each begins where it says', async () => {
    const stream = await filled(4);
    expect(dataOf((await stream.group('all').claim())?.events)).toEqual([1, 2, 3, 4]);
    expect(dataOf((await stream.group('late', { from: 2n }).claim())?.events)).toEqual([3, 4]);
    const end = stream.group('end', { from: 'end' });
    expect(await end.claim()).toBeNull();
    await stream.append(5);
    expect(dataOf((await end.claim())?.events)).toEqual([5]);
    const names: string[] = [];
    for await (const { name } of sluice.groups({ stream: stream.name })) names.push(name);
    expect(names).toEqual(['all', 'end', 'late']);
  });

  test('I5: what has expired is handed out again, counted, and the old lease is worth nothing', async () => {
    const group = (await filled(1)).group('g');
    const stale = await group.claim({ leaseMs: 100 });
    expect(stale?.attempt(1n)).toBe(1);
    let fresh: Awaited<ReturnType<typeof group.claim>> = null;
    await until(async () => (fresh = await group.claim({ max: 1 })) !== null);
    const again = fresh as unknown as NonNullable<Awaited<ReturnType<typeof group.claim>>>;
    expect(again.attempt(1n)).toBe(2);
    await expect(stale?.ack()).rejects.toEqual(code('lease_lost'));
    await expect(stale?.extend(1000)).rejects.toEqual(code('lease_lost'));
    await expect(stale?.release()).rejects.toEqual(code('lease_lost'));
    await again.ack();
    await expect(again.ack()).rejects.toEqual(code('lease_lost'));
    expect(await group.claim()).toBeNull();
  });

  test('I5: what comes again and what comes next are one lease, each with what it has of its own', async () => {
    const stream = await filled(0);
    const events = [
      { data: 1, key: 'a', headers: { n: '1' }, visibleTo: 'staff' },
      { data: 2, type: 'paid' },
      { data: 3, type: 'sent', key: '\u0001"', headers: { n: '3' } },
      { data: 4 },
    ];
    await stream.appendMany(events);
    const group = stream.group('g');
    await group.claim({ max: 2 }).then(async (lease) => lease?.release());
    const lease = await group.claim({ max: 10 });
    expect(lease?.events.map(({ offset }) => offset)).toEqual([1n, 2n, 3n, 4n]);
    const none = { type: null, key: null, visibleTo: null, headers: {} };
    expect(lease?.events).toMatchObject(events.map((event) => ({ ...none, ...event })));
    await lease?.ack();
    expect(await group.stats()).toMatchObject({ lag: 0, inFlight: 0 });
  });

  test('I8: what the log lets go of while it is being claimed is counted, and nothing takes its place', async () => {
    const stream = await filled(5, (n) => `key ${n}`);
    const group = stream.group('g');
    await db.query(
      `delete from sluice.events e using sluice.streams s
       where s.id = e.stream_id and s.name = $1 and e."offset" <= 2`,
      [stream.name],
    );
    const lease = await group.claim({ max: 10 });
    expect(lease?.events).toMatchObject(
      [3, 4, 5].map((n) => ({ offset: BigInt(n), data: n, key: `key ${n}` })),
    );
    expect(await group.stats()).toMatchObject({ missed: 2, inFlight: 3 });
    await lease?.ack();
    expect(await group.stats()).toMatchObject({ lag: 0, inFlight: 0 });
  });

  test('I5: a claim ends the leases that are done, but for those that are over or that somebody acknowledges', async () => {
    const stream = await filled(3);
    const group = stream.group('g');
    for (let n = 0; n < 3; n += 1) await group.claim({ max: 1 });
    const { rows } = await db.query<{ group_id: string; token: string }>(
      `select l.group_id, l.token from sluice.leases l join sluice.groups g on g.id = l.group_id
       join sluice.streams s on s.id = g.stream_id where s.name = $1 order by lower(l.open)`,
      [stream.name],
    );
    const tokens = rows.map(({ token }) => token);
    await using handler = await openClient(db.connectionString);
    await handler.query('begin');
    await handler.query(`select sluice.ack_events($1, '{[2,3)}')`, [tokens[1]]);
    await db.query('update sluice.leases set expires_at = clock_timestamp() where token = $1', [tokens[0]]);
    expect(dataOf((await group.claim({ max: 1 }))?.events)).toEqual([1]);
    const { rows: answers } = await db.query<{ meta: string }>(
      `select meta from sluice.claim($1, gen_random_uuid(), gen_random_uuid(), 1, 1000, 1000, 10, p_done => $2)`,
      [rows[0]?.group_id, tokens],
    );
    const { kept } = JSON.parse(answers[0]?.meta ?? '{}') as { kept: string[] };
    expect(kept.toSorted()).toEqual(tokens.slice(0, 2).toSorted());
    await handler.query('commit');
    await db.query('select sluice.settle($1, null)', [tokens[1]]);
    expect(await group.stats()).toMatchObject({ lag: 1, inFlight: 1 }); // the one that came again
  });

  test('a lease that is extended lasts; what is released comes again uncounted', async () => {
    const group = (await filled(2)).group('g');
    const lease = await group.claim({ leaseMs: 30_000 });
    const before = lease?.expiresAt.getTime() ?? 0;
    await lease?.extend(60_000);
    expect((lease?.expiresAt.getTime() ?? 0) - before).toBeGreaterThan(20_000);
    await lease?.release();
    const again = await group.claim();
    expect(dataOf(again?.events)).toEqual([1, 2]);
    expect([again?.attempt(1n), again?.attempt(2n)]).toEqual([1, 1]);
    expect(() => again?.attempt(3n)).toThrow(RangeError);
  });

  test('an extension never brings the end of a lease nearer', async () => {
    const stream = await filled(1);
    const lease = await stream.group('g').claim({ leaseMs: 60_000 });
    const before = lease?.expiresAt.getTime() ?? Infinity;
    await lease?.extend(100);
    expect(lease?.expiresAt.getTime()).toBeGreaterThanOrEqual(before);
    const { rows } = await db.query(
      `select l.expires_at > now() + interval '50 s' as holds from sluice.leases l join sluice.groups g on g.id = l.group_id
       join sluice.streams s on s.id = g.stream_id where s.name = $1`,
      [stream.name],
    );
    expect(rows).toEqual([{ holds: true }]);
  });

  test('I5: what is given up because its consumers died is reported, by whoever takes it back', async () => {
    const stream = await filled(1);
    const group = stream.group('g', { maxAttempts: 1 });
    const died = nextMessage('sluice:group.died');
    await group.claim({ leaseMs: 100 });
    await until(async () => (await group.claim()) === null && (await group.stats()).dead === 1);
    expect(await died).toMatchObject({ stream: stream.name, group: 'g', events: 1 });
  });

  test('what is given up by hand, or refused by the schema of a claim, is reported as well', async () => {
    const stream = await filled(2);
    const lease = await stream.group('g', { maxAttempts: 1 }).claim({ max: 1 });
    const byHand = nextMessage('sluice:group.died');
    await lease?.ack({ failed: [{ offset: 1n, error: 'no' }] });
    expect(await byHand).toMatchObject({ stream: stream.name, group: 'g', events: 1 });
    const vendor = 'test';
    const schema: StandardSchemaV1 = {
      '~standard': { version: 1, vendor, validate: () => ({ issues: [{ message: 'none will do' }] }) },
    };
    const refusing = sluice.stream(stream.name, { schema, validateOnRead: true });
    const refused = nextMessage('sluice:group.died');
    expect(await refusing.group('refusing', { maxAttempts: 1 }).claim()).toBeNull();
    expect(await refused).toMatchObject({ group: 'refusing', events: 2 });
  });

  test('I5: part of a lease can fail: it comes again by itself, at its time; the rest is done', async () => {
    const group = (await filled(3)).group('g', { backoff: { initialMs: 1, maxMs: 1 } });
    const lease = await group.claim();
    await lease?.ack({
      failed: [
        { offset: 2n, error: new Error('no') },
        { offset: 3n, error: 'later', retryAt: new Date(Date.now() + 3_600_000) },
      ],
    });
    await until(async () => {
      const again = await group.claim();
      if (!again) return false;
      expect(dataOf(again.events)).toEqual([2]);
      expect(again.attempt(2n)).toBe(2);
      await again.ack();
      return true;
    });
    expect(await group.claim()).toBeNull();
    expect(await group.stats()).toMatchObject({ lag: 1, retries: 1, inFlight: 0 });
  });

  test('I5: one that failed waits for its backoff, without a time of its own', async () => {
    const day = 86_400_000; // full jitter: less than a second of it once in 86 400 runs
    const group = (await filled(1)).group('g', { backoff: { initialMs: day, maxMs: day } });
    await (await group.claim())?.ack({ failed: [{ offset: 1n, error: new Error('no') }] });
    expect(await group.claim()).toBeNull();
    expect(await group.stats()).toMatchObject({ lag: 1, retries: 1, dead: 0 });
  });

  test('I5: an event that fails too often is a dead letter, to be listed, requeued and dropped', async () => {
    const stream = await filled(3, String);
    const group = stream.group('g', { maxAttempts: 2, backoff: { initialMs: 1, maxMs: 1 } });
    let failures = 0;
    await until(async () => {
      const lease = await group.claim();
      const failed = (lease?.events ?? []).map(({ offset }) => ({ offset, error: { why: `bad ${offset}` } }));
      failures += failed.length;
      await lease?.ack({ failed });
      return failures === 6;
    });
    expect(await group.stats()).toMatchObject({ lag: 0, dead: 3, retries: 0 });
    const listed = async (filter?: Parameters<typeof group.deadLetters.list>[0]): Promise<unknown[]> => {
      const all: unknown[] = [];
      for await (const { event, attempts, error } of group.deadLetters.list(filter)) {
        all.push([event.data, event.key, attempts, error]);
      }
      return all;
    };
    expect(await listed()).toEqual(
      upTo(3).map((n) => [n, String(n), 2, expect.stringContaining(`bad ${n}`)]),
    );
    expect(await listed({ key: '2' })).toHaveLength(1);
    expect(await listed({ error: 'bad 3' })).toHaveLength(1);
    expect(await listed({ since: new Date(Date.now() + 60_000) })).toEqual([]);
    expect(await group.deadLetters.requeue({ offsets: [1n] })).toBe(1);
    const again = await group.claim();
    expect(dataOf(again?.events)).toEqual([1]);
    expect(again?.attempt(1n)).toBe(1);
    await again?.ack();
    expect(await group.deadLetters.drop({ offsets: [2n] })).toBe(1);
    expect(await group.deadLetters.requeue()).toBe(1);
    expect(await listed()).toEqual([]);
    expect(dataOf((await group.claim())?.events)).toEqual([3]);
  });

  test('I5: acknowledged in a transaction, it is done with the commit and not at all after a rollback', async () => {
    const group = (await filled(2)).group('g');
    await db.query('create table if not exists effects (n integer)');
    await using client = await openClient(db.connectionString);
    const lease = await group.claim();
    await client.query('begin');
    await client.query('insert into effects values (1)');
    await lease?.ack({ tx: client });
    await client.query('rollback');
    expect(await group.stats()).toMatchObject({ inFlight: 2 });
    await client.query('begin');
    await client.query('insert into effects values (1)');
    await lease?.ack({ tx: client, failed: [{ offset: 2n, error: 'x' }] });
    await client.query('commit');
    expect(await group.stats()).toMatchObject({ inFlight: 0, retries: 1 });
    expect((await db.query('select count(*)::int as n from effects')).rows).toEqual([{ n: 1 }]);
    await client.query('begin');
    await expect(lease?.ack({ tx: client })).rejects.toEqual(code('lease_lost'));
    await client.query('rollback');
    await expect(lease?.ack({ tx: client })).rejects.toEqual(code('tx_required'));
  });

  test('I8: what was trimmed before it was handled is counted, and the group goes on with the oldest', async () => {
    const stream = await filled(6);
    const group = stream.group('g', { backoff: { initialMs: 1, maxMs: 1 } });
    const lease = await group.claim({ max: 2 });
    await lease?.ack({ failed: [{ offset: 2n, error: 'x' }] });
    await stream.trim({ before: 5n });
    expect(await group.stats()).toMatchObject({ missed: 2 });
    const missed = nextMessage('sluice:group.missed');
    const ending = new AbortController();
    const seen: unknown[] = [];
    const consuming = group.consume(
      async ({ data }) => {
        seen.push(data);
        if (seen.length === 2) ending.abort();
        return Promise.resolve();
      },
      { signal: ending.signal },
    );
    await missed;
    await consuming;
    expect(seen).toEqual([5, 6]);
    await until(async () => (await group.stats()).missed === 3);
  });
});

describe('bad input has a clear outcome', () => {
  test.each([
    { concurrency: 0 },
    { concurrency: 1.5 },
    { maxBatch: 0 },
    { leaseMs: 1 },
    { throttle: { perSecond: 0 } },
    { breaker: { failures: 0, pauseMs: 1 } },
    { drainMs: -1 },
    { handlerTimeoutMs: Number.NaN },
  ])('%o', async (options) => {
    const group = sluice.stream('any').group('g');
    await expect(group.consume(async () => Promise.resolve(), options)).rejects.toThrow(RangeError);
  });

  test('options of a group', () => {
    const stream = sluice.stream('any');
    expect(() => stream.group('g', { maxAttempts: 0 })).toThrow(RangeError);
    expect(() => stream.group('g', { keyed: { partitions: 0 } })).toThrow(RangeError);
    expect(() => stream.group('g', { backoff: { initialMs: 10, maxMs: 1 } })).toThrow(RangeError);
    expect(() => stream.group('')).toThrow(code('name_invalid'));
    expect(() => stream.group('a\n')).toThrow(/^group name "a\\n" contains a control character$/);
    expect(() => stream.group('g', { from: 'nowhere' })).toThrow(code('cursor_invalid'));
  });

  test('a stream that is not there, or was deleted', async () => {
    const missing = sluice.stream('not there').group('g');
    await expect(missing.claim()).rejects.toEqual(code('stream_not_found'));
    await expect(missing.stats()).rejects.toEqual(code('stream_not_found'));
    await expect(missing.consume(async () => Promise.resolve())).rejects.toEqual(code('stream_not_found'));
    expect(await missing.delete()).toBe(false);
    const stream = await filled(1);
    const seen: unknown[] = [];
    const consuming = stream.group('g').consume(async ({ data }) => {
      seen.push(data);
      return Promise.resolve();
    });
    await until(() => seen.length === 1);
    const refused = expect(consuming).rejects.toEqual(code('stream_not_found'));
    await sluice.deleteStream(stream.name);
    await refused;
  });

  test('what is said of a group holds for the one that has the name now, whoever made it anew', async () => {
    const stream = await filled(1);
    const handle = stream.group('g', { maxAttempts: 1 });
    const listed = async (): Promise<number> => {
      let count = 0;
      for await (const _ of handle.deadLetters.list()) count += 1;
      return count;
    };
    const anew = async (): Promise<void> => {
      await handle.stats();
      await using elsewhere = await connect({ connectionString: db.connectionString });
      await elsewhere.deleteStream(stream.name);
      await elsewhere.stream(stream.name).append(1);
      const lease = await elsewhere.stream(stream.name).group('g', { maxAttempts: 1 }).claim();
      await lease?.ack({ failed: [{ offset: 1n, error: 'given up' }] });
    };
    await anew();
    await handle.pause();
    expect(await handle.stats()).toMatchObject({ paused: true, dead: 1 });
    await anew();
    expect(await listed()).toBe(1);
    await anew();
    expect(await handle.deadLetters.drop()).toBe(1);
    await anew();
    await handle.seek('start');
    expect(await handle.stats()).toMatchObject({ cursor: 0n, dead: 1 });
  });

  test('I5: the leases of a group that was deleted are over at once, and so are those of a deleted stream', async () => {
    await using client = await openClient(db.connectionString);
    for (const keyed of [undefined, { partitions: 2 }]) {
      for (const remove of [
        async (stream: Stream) => stream.group('g').delete(),
        async (stream: Stream) => sluice.deleteStream(stream.name),
      ]) {
        const stream = await filled(3, String);
        const lease = await stream.group('g', { keyed }).claim();
        await client.query('begin');
        expect(await remove(stream)).toBe(true);
        await expect(lease?.ack({ tx: client })).rejects.toEqual(code('lease_lost'));
        await client.query('rollback');
        for (const late of [
          async () => lease?.ack(),
          async () => lease?.ack({ failed: [{ offset: 1n, error: 'late' }] }),
          async () => lease?.extend(1000),
          async () => lease?.release(),
        ]) {
          await expect(late()).rejects.toEqual(code('lease_lost'));
        }
      }
    }
  });

  test('dead letters named by something else than offsets: none of them goes, least of all every one', async () => {
    const group = (await filled(2)).group('g', { maxAttempts: 1 });
    await (await group.claim())?.ack({ failed: [1n, 2n].map((offset) => ({ offset, error: 'x' })) });
    for (const offsets of [null, 'all', 1n, {}]) {
      await expect(group.deadLetters.drop({ offsets: offsets as never })).rejects.toThrow(
        /^offsets is .+; give an array/,
      );
      await expect(group.deadLetters.requeue({ offsets: offsets as never })).rejects.toThrow(TypeError);
    }
    await expect(group.deadLetters.drop({ offsets: ['1'] as never })).rejects.toThrow(/^"1" is no offset/);
    expect(await group.deadLetters.drop({ offsets: [] })).toBe(0);
    expect(await group.stats()).toMatchObject({ dead: 2 });
  });

  test('the partitions of a group are fixed', async () => {
    const stream = await filled(1);
    await stream.group('g', { keyed: { partitions: 4 } }).claim();
    await expect(stream.group('g', { keyed: { partitions: 8 } }).claim()).rejects.toThrow(
      /has 4 partitions, not 8/,
    );
    expect(await stream.group('g').stats()).toMatchObject({ partitions: 4 });
  });

  test('a seek beyond the log, or to a time that is none', async () => {
    const group = (await filled(2)).group('g');
    await expect(group.seek(3n)).rejects.toEqual(code('cursor_reset'));
    await expect(group.seek(new Date(Number.NaN))).rejects.toThrow(RangeError);
  });
});

test('pause, resume, seek to an offset, the start and a time; delete', async () => {
  const stream = await filled(3);
  const group = stream.group('g');
  await group.pause();
  expect(await group.claim()).toBeNull();
  expect(await group.stats()).toMatchObject({ paused: true, lag: 3 });
  await group.resume();
  const lease = await group.claim();
  await group.seek(1n);
  await expect(lease?.ack()).rejects.toEqual(code('lease_lost'));
  expect(dataOf((await group.claim())?.events)).toEqual([2, 3]);
  await group.seek('start');
  expect(dataOf((await group.claim())?.events)).toEqual([1, 2, 3]);
  const { events } = await stream.read();
  await group.seek(events[0]?.at ?? new Date(Number.NaN));
  expect(dataOf((await group.claim({ max: 1 }))?.events)).toEqual([1]);
  await group.seek(new Date(Date.now() + 60_000));
  expect(await group.claim()).toBeNull();
  expect(await group.delete()).toBe(true);
  expect(dataOf((await group.claim())?.events)).toEqual([1, 2, 3]);
});

test('retention takes no notice of a group, unless it says so, and then for so long', async () => {
  const name = 'retained';
  await sluice.createStream(name, { maxCount: 2 });
  const stream = sluice.stream(name);
  await stream.appendMany(upTo(10).map((data) => ({ data })));
  const retain = async (): Promise<void> => {
    await db.query('select sluice.retain_stream(id) from sluice.streams where name = $1', [name]);
  };
  const oldest = async (): Promise<bigint | undefined> => (await stream.info())?.oldest;
  await stream.group('none').claim({ max: 1 });
  const lease = await stream.group('holds', { holdMs: 86_400_000 }).claim({ max: 4 });
  await retain();
  expect(await oldest()).toBe(1n);
  await lease?.ack({ failed: [{ offset: 3n, error: 'x', retryAt: new Date(Date.now() + 3_600_000) }] });
  await retain();
  expect(await oldest()).toBe(3n);
  await stream.group('holds', { holdMs: 0 }).stats();
  await retain();
  expect(await oldest()).toBe(9n);
  await stream.append(11);
  await stream.group('holds', { holdMs: 1 }).stats();
  await retain();
  expect(await oldest()).toBe(10n); // what it has not handled came longer ago than that
});
