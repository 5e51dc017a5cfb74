// Guards idempotency keys: what is written under one key within its window is written once, whoever repeats it and by
// whichever way in, and the repeated append gets the first result. Decided under the stream's lock alone, so that no
// publisher ever waits for another's transaction or fails for it.
import * as fc from 'fast-check';
import { connect, SluiceError, type Sluice } from 'sluice';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { createProxy } from '../support/proxy.ts';
import { logOf, passAll, pendingIn, undeliverableTo } from '../support/log-sql.ts';

const db = useDatabase({ allowOpenSessions: true });
let sluice: Sluice;
let other: Sluice;
beforeAll(async () => {
  // Nobody moves anything but passAll and appends, so that a test decides when.
  const options = { connectionString: db.connectionString, relay: false, fallbackPollMs: 600_000 };
  [sluice, other] = await Promise.all([connect(options), connect(options)]);
});
afterAll(() => Promise.all([sluice.close(), other.close()]));

const expireAll = () =>
  db.query(`update sluice.idempotency_keys set expires_at = clock_timestamp() - interval '1 s'`);
const keysOf = async (stream: string): Promise<number> =>
  Number(
    (
      await db.query(
        'select count(*) from sluice.idempotency_keys k join sluice.streams s on s.id = k.stream_id where s.name = $1',
        [stream],
      )
    ).rows[0]?.['count'],
  );

describe('a repeated append', () => {
  test('returns the first result and writes nothing, from any process', async () => {
    const first = await sluice.stream('a').append('x', { idempotencyKey: 'k' });
    expect(first).toMatchObject({ offset: 1n, duplicate: false });
    await sluice.stream('a').append('y');
    expect(await other.stream('a').append('x', { idempotencyKey: 'k' })).toEqual({
      ...first,
      duplicate: true,
    });
    expect(await sluice.stream('a').append('other data', { idempotencyKey: 'k' })).toEqual({
      ...first,
      duplicate: true,
    });
    expect(await logOf(db, 'a')).toEqual(['"x"', '"y"']);
    const { events } = await other.stream('a').read({ after: first.cursor });
    expect(events.map(({ data }) => data)).toEqual(['y']);
  });

  test('of a batch returns the range of the batch', async () => {
    const stream = sluice.stream('batch');
    await stream.append(0);
    const events = [{ data: 1 }, { data: 2 }, { data: 3 }];
    const first = await stream.appendMany(events, { idempotencyKey: 'k' });
    expect(first).toMatchObject({ first: 2n, last: 4n, duplicate: false });
    expect(await stream.appendMany(events, { idempotencyKey: 'k' })).toEqual({ ...first, duplicate: true });
    expect(await logOf(db, 'batch')).toEqual(['0', '1', '2', '3']);
  });

  test('keys are per stream, and bytes are what counts', async () => {
    for (const name of ['s1', 's2']) {
      for (const key of ['k', 'K', 'k ', '\u00e9', 'e\u0301', '💶', 'x'.repeat(255)]) {
        expect(await sluice.stream(name).append(key, { idempotencyKey: key })).toMatchObject({
          duplicate: false,
        });
      }
    }
  });

  test('many at once, in two processes, with plain appends between them: one of each key', async () => {
    const work: Promise<{ offset: bigint; duplicate: boolean; key: number }>[] = [];
    for (let n = 0; n < 300; n += 1) {
      const key = n % 20;
      const stream = (n % 2 === 0 ? sluice : other).stream('many');
      work.push(stream.append(key, { idempotencyKey: String(key) }).then((result) => ({ ...result, key })));
      if (n % 3 === 0) void stream.append('plain');
    }
    const results = await Promise.all(work);
    expect(results.filter(({ duplicate }) => !duplicate)).toHaveLength(20);
    const log = await logOf(db, 'many');
    expect(log.filter((text) => text !== '"plain"').toSorted()).toEqual(
      Array.from({ length: 20 }, (_, key) => String(key)).toSorted(),
    );
    for (const { offset, key } of results) expect(log[Number(offset) - 1]).toBe(String(key));
  });

  test('whose first answer was lost: the connection broke, and the server committed', async () => {
    const url = new URL(db.connectionString);
    const proxy = await createProxy({ targetPort: Number(url.port) });
    onTestFinished(() => proxy.close());
    url.host = `${proxy.host}:${proxy.port}`;
    url.searchParams.set('application_name', 'cut off');
    const options = { relay: false, fallbackPollMs: 600_000, listenConnectionString: db.connectionString };
    await using cutOff = await connect({ connectionString: url.href, ...options });
    await cutOff.createStream('lost');
    await using holder = await openClient(db.connectionString);
    await holder.query('begin');
    await holder.query(`select from sluice.streams where name = 'lost' for update`);
    const answer = cutOff.stream('lost').append(1, { idempotencyKey: 'k' });
    const outcome = answer.then(
      () => 'ok',
      (error: unknown) => (error as SluiceError).code,
    );
    await until(async () => {
      const { rows } = await db.query(
        `select from pg_stat_activity where application_name = 'cut off' and wait_event_type = 'Lock'`,
      );
      return rows.length === 1;
    });
    proxy.cut();
    expect(await outcome).toBe('connection_lost');
    await holder.query('commit'); // the server process of the lost connection now gets the lock, and commits
    await until(async () => (await logOf(db, 'lost')).length === 1);
    expect(await cutOff.stream('lost').append(1, { idempotencyKey: 'k' })).toMatchObject({
      offset: 1n,
      duplicate: true,
    });
    expect(await logOf(db, 'lost')).toEqual(['1']);
  });

  test('with the result of the first also when that is trimmed, and on a closed stream', async () => {
    const stream = sluice.stream('trimmed');
    const first = await stream.append(1, { idempotencyKey: 'k' });
    await stream.append(2);
    await db.query(
      `update sluice.streams s set trimmed_to = 2, trimmed_tag = e.tag from sluice.events e
       where s.name = 'trimmed' and e.stream_id = s.id and e."offset" = 2`,
    );
    await db.query(
      `delete from sluice.events e using sluice.streams s where s.name = 'trimmed' and e.stream_id = s.id`,
    );
    await db.query(`select sluice.close_stream('trimmed')`);
    expect(await stream.append(1, { idempotencyKey: 'k' })).toEqual({ ...first, duplicate: true });
  });

  test('by SQL', async () => {
    const append = async (key: string) =>
      Number(
        (await db.query(`select sluice.append('sql', '1', p_idempotency_key => $1) as o`, [key])).rows[0]?.[
          'o'
        ],
      );
    expect([await append('a'), await append('b'), await append('a')]).toEqual([1, 2, 1]);
  });
});

describe('a repeated publish', () => {
  test('appears once: within one pass, across passes, and after an append', async () => {
    const stream = sluice.stream('p');
    await stream.publish(1, { idempotencyKey: 'k' });
    await stream.publish(2);
    await stream.publish('again', { idempotencyKey: 'k' });
    await passAll(db);
    await other.stream('p').publish('and again', { idempotencyKey: 'k' });
    await stream.append(3, { idempotencyKey: 'm' });
    await stream.publish('appended before', { idempotencyKey: 'm' });
    await passAll(db);
    expect(await logOf(db, 'p')).toEqual(['1', '2', '3']);
    expect(await pendingIn(db, 'p')).toBe(0);
    expect(await undeliverableTo(db, 'p')).toEqual([]);
    expect(await stream.append('published before', { idempotencyKey: 'k' })).toMatchObject({
      offset: 1n,
      duplicate: true,
    });
  });

  test('an append sees what is published and not yet moved', async () => {
    const stream = sluice.stream('pending');
    await stream.publish(1, { idempotencyKey: 'k' });
    expect(await stream.append(2, { idempotencyKey: 'k' })).toMatchObject({ offset: 1n, duplicate: true });
    expect(await logOf(db, 'pending')).toEqual(['1']);
  });

  test('the events of one call are kept or dropped together', async () => {
    const stream = sluice.stream('calls');
    const events = [{ data: 1 }, { data: 2 }];
    await stream.publishMany(events, { idempotencyKey: 'k' });
    await stream.publishMany([{ data: 'x' }, { data: 'y' }, { data: 'z' }], { idempotencyKey: 'k' });
    await passAll(db);
    await stream.publishMany(events, { idempotencyKey: 'k' });
    await passAll(db);
    expect(await logOf(db, 'calls')).toEqual(['1', '2']);
    expect(await stream.append(0, { idempotencyKey: 'k' })).toMatchObject({ offset: 1n, duplicate: true });
  });

  test.each(['read committed', 'repeatable read', 'serializable'])(
    'I3: waits for no other transaction with its key, and does not fail for one, at %s',
    async (level) => {
      const stream = sluice.stream(`level ${level}`);
      await using a = await openClient(db.connectionString);
      await using b = await openClient(db.connectionString);
      for (const client of [a, b]) await client.query(`begin isolation level ${level}`);
      await stream.publish('a', { tx: a, idempotencyKey: 'k' });
      await stream.publish('b', { tx: b, idempotencyKey: 'k' }); // while a is open
      await b.query('commit');
      await passAll(db);
      await a.query('commit');
      await passAll(db);
      expect(await logOf(db, `level ${level}`)).toEqual(['"b"']);
    },
  );

  test('one rolled back leaves the key free', async () => {
    const stream = sluice.stream('rolled back');
    await using client = await openClient(db.connectionString);
    await client.query('begin');
    await stream.publish(1, { tx: client, idempotencyKey: 'k' });
    await client.query('rollback');
    await stream.publish(2, { idempotencyKey: 'k' });
    await passAll(db);
    expect(await logOf(db, 'rolled back')).toEqual(['2']);
  });

  test('delayed: the key counts from when the event is due', async () => {
    const stream = sluice.stream('delayed');
    await stream.publish('later', { delayMs: 3_600_000, idempotencyKey: 'k' });
    await stream.publish('now', { idempotencyKey: 'k' });
    await passAll(db);
    await db.query(`update sluice.delayed set due_at = clock_timestamp() where stream = 'delayed'`);
    await passAll(db);
    expect(await logOf(db, 'delayed')).toEqual(['"now"']);
  });

  test('two passes at once move it once', async () => {
    const stream = sluice.stream('two passes');
    for (let n = 0; n < 30; n += 1) await stream.publish(n % 3, { idempotencyKey: String(n % 3) });
    await Promise.all(Array.from({ length: 6 }, () => passAll(db)));
    expect(await logOf(db, 'two passes')).toEqual(['0', '1', '2']);
  });
});

describe('the window', () => {
  test('past it a key is free again, whether or not the old one is removed yet', async () => {
    const stream = sluice.stream('window');
    await stream.append(1, { idempotencyKey: 'k' });
    await expireAll();
    expect(await stream.append(2, { idempotencyKey: 'k' })).toMatchObject({ offset: 2n, duplicate: false });
    await expireAll();
    await stream.publish(3, { idempotencyKey: 'k' });
    await passAll(db);
    expect(await stream.append(4, { idempotencyKey: 'k' })).toMatchObject({ offset: 3n, duplicate: true });
    expect(await keysOf('window')).toBe(1);
  });

  test('is the stream’s own option, also when it is changed', async () => {
    expect((await sluice.createStream('short', { idempotencyWindowMs: 1000 })).idempotencyWindowMs).toBe(
      1000,
    );
    const stream = sluice.stream('short');
    const secondsLeft = async (key: string): Promise<number> => {
      await stream.append(1, { idempotencyKey: key });
      const { rows } = await db.query(
        `select date_part('epoch', expires_at - clock_timestamp()) as left from sluice.idempotency_keys where key = $1`,
        [key],
      );
      return Number(rows[0]?.['left']);
    };
    expect(await secondsLeft('one second')).toBeLessThanOrEqual(1);
    await sluice.configureStream('short', { idempotencyWindowMs: 10_000 });
    expect(await secondsLeft('ten seconds')).toBeGreaterThan(1);
    const { idempotencyWindowMs } = await sluice.configureStream('short', { idempotencyWindowMs: null });
    expect(idempotencyWindowMs).toBe(86_400_000);
    for (const bad of [0, -1, 1.5, Number.NaN, 4e12]) {
      await expect(sluice.createStream('bad window', { idempotencyWindowMs: bad })).rejects.toThrow(
        /^idempotencyWindowMs is .*; give/,
      );
    }
    expect(await sluice.stream('bad window').info()).toBeNull();
  });

  test('I7: expired keys go by themselves, in bounded batches; others stay', async () => {
    await sluice.createStream('expiry');
    await db.query(
      `insert into sluice.idempotency_keys (stream_id, key, first_offset, last_offset, last_tag, expires_at)
       select s.id, n::text, n, n, 0, clock_timestamp() + case when n % 3 = 0 then interval '1 h' else interval '-1 s' end
       from sluice.streams s, generate_series(1, 18000) n where s.name = 'expiry'`,
    );
    const batch = async () => Number((await db.query('select sluice.expire_keys(5000) as n')).rows[0]?.['n']);
    expect(await batch()).toBe(5000);
    await using housekeeper = await connect({
      connectionString: db.connectionString,
      relay: false,
      fallbackPollMs: 20,
    });
    await until(async () => (await keysOf('expiry')) === 6000);
    await nextMessage('sluice:poll.finished');
    expect(await keysOf('expiry')).toBe(6000);
    expect(housekeeper).toBeDefined();
  });

  test('a key being renewed is not removed, and nobody waits', async () => {
    const stream = sluice.stream('renewed');
    await stream.append(1, { idempotencyKey: 'k' });
    await expireAll();
    await using client = await openClient(db.connectionString);
    await client.query('begin');
    await client.query(`select sluice.append('renewed', '2', p_idempotency_key => 'k')`);
    await db.query('select sluice.expire_keys()');
    await client.query('commit');
    expect(await stream.append(3, { idempotencyKey: 'k' })).toMatchObject({ offset: 2n, duplicate: true });
  });
});

test('a repeated key of another incarnation is no duplicate', async () => {
  await sluice.stream('again').append(1, { idempotencyKey: 'k' });
  await sluice.deleteStream('again');
  expect(await sluice.stream('again').append(1, { idempotencyKey: 'k' })).toMatchObject({
    offset: 1n,
    duplicate: false,
  });
});

test('any order of appends, publishes and passes writes each key once, each plain event once, in order', async () => {
  let run = 0;
  const step = fc.oneof(
    fc.record({ kind: fc.constant('append' as const), key: fc.option(fc.nat(4)) }),
    fc.record({
      kind: fc.constant('publish' as const),
      key: fc.option(fc.nat(4)),
      size: fc.integer({ min: 1, max: 3 }),
    }),
    fc.record({ kind: fc.constant('pass' as const) }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
      run += 1;
      const stream = sluice.stream(`model/${run}`);
      const expected: string[] = [];
      const known = new Set<number>();
      for (const [n, each] of steps.entries()) {
        if (each.kind === 'pass') await passAll(db);
        else {
          const idempotencyKey = each.key === null ? undefined : String(each.key);
          const size = each.kind === 'publish' ? each.size : 1;
          const events = Array.from({ length: size }, (_, i) => ({ data: `${n}.${i}` }));
          if (each.kind === 'append') await stream.append(`${n}.0`, { idempotencyKey });
          else await stream.publishMany(events, { idempotencyKey });
          if (each.key === null || !known.has(each.key))
            expected.push(...events.map(({ data }) => `"${data}"`));
          if (each.key !== null) known.add(each.key);
        }
      }
      await passAll(db);
      expect(await logOf(db, `model/${run}`)).toEqual(expected);
    }),
    { numRuns: 40 },
  );
});

describe('is refused, and nothing is written', () => {
  test.each<[unknown, RegExp]>([
    ['', /idempotency key "" has 0 bytes; use 1 to 255/],
    ['x'.repeat(256), /idempotency key "xx.* has 256 bytes; use 1 to 255, such as a UUID/],
    ['é'.repeat(128), /has 256 bytes/],
    ['a\0b', /U\+0000/],
    ['\ud800', /lone surrogate/],
    [7, /must be a string, not number/],
  ])('a key like %j', async (key, message) => {
    const options = { idempotencyKey: key as string };
    const stream = sluice.stream('bad keys');
    for (const work of [
      () => stream.append(1, options),
      () => stream.appendMany([{ data: 1 }], options),
      () => stream.publish(1, options),
      () => stream.publishMany([{ data: 1 }], options),
    ]) {
      const error = await work().then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      expect(error).toBeInstanceOf(SluiceError);
      expect(error).toMatchObject({
        code: 'name_invalid',
        message: expect.stringMatching(message) as string,
      });
    }
    expect(await stream.info()).toBeNull();
    expect(await pendingIn(db, 'bad keys')).toBe(0);
  });

  test('by SQL too', async () => {
    for (const call of [`publish('bad', '1'`, `append('bad', '1'`]) {
      await expect(db.query(`select sluice.${call}, p_idempotency_key => repeat('x', 256))`)).rejects.toThrow(
        /has 256 bytes/,
      );
      await expect(db.query(`select sluice.${call}, p_idempotency_key => '')`)).rejects.toThrow(
        /has 0 bytes/,
      );
    }
  });
});
