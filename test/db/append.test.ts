// Guards append as users have it: what comes back, whatever was given; what is refused, each with its code and without
// a trace in the log; and that nobody's bad event or held stream is anybody else's trouble (I1, I7).
import * as fc from 'fast-check';
import { Pool } from 'pg';
import { connect, SluiceError, type ConnectOptions, type NewEvent, type Sluice } from 'sluice';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';
import { isBlocked, logOf, passAll, pendingIn, publish, backendOf } from '../support/log-sql.ts';

const db = useDatabase();
let sluice: Sluice;
beforeAll(async () => {
  // Nobody moves what is published but an append, or passAll.
  sluice = await open({});
});
afterAll(() => sluice.close());

const open = (options: ConnectOptions): Promise<Sluice> =>
  connect({ connectionString: db.connectionString, relay: false, fallbackPollMs: 600_000, ...options });
const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'ok',
    (error: unknown) => (error instanceof SluiceError ? error.code : String(error)),
  );
const nested = (depth: number): unknown => {
  let data: unknown = [];
  for (let n = 0; n < depth; n += 1) data = [data];
  return data;
};

describe('what comes back', () => {
  test('an offset, and a cursor that resumes just after it', async () => {
    const stream = sluice.stream('returns');
    const first = await stream.append('a');
    expect(first).toMatchObject({ offset: 1n, duplicate: false });
    const many = await stream.appendMany([{ data: 'b' }, { data: 'c' }]);
    expect(many).toMatchObject({ first: 2n, last: 3n, duplicate: false });
    expect((await stream.read({ after: first.cursor })).events.map(({ data }) => data)).toEqual(['b', 'c']);
    expect((await stream.read({ after: many.cursor })).events).toEqual([]);
    expect((await stream.read()).cursor).toBe(many.cursor);
  });

  test('an event’s own type, key and headers win over those of the batch', async () => {
    const stream = sluice.stream('defaults');
    const events: NewEvent[] = [{ data: 1 }, { data: 2, type: 'own', key: 'k2', headers: { of: 'its own' } }];
    await stream.appendMany(events, { type: 'common', key: 'k', headers: { of: 'all' } });
    expect((await stream.read()).events).toMatchObject([
      { data: 1, type: 'common', key: 'k', headers: { of: 'all' } },
      { data: 2, type: 'own', key: 'k2', headers: { of: 'its own' } },
    ]);
  });

  test('I1: concurrent appends to many streams get dense offsets, in the order in which they were called', async () => {
    const calls = Array.from({ length: 300 }, (_, n) => ({ n, name: `concurrent ${n % 7}` }));
    const offsets = await Promise.all(calls.map(({ n, name }) => sluice.stream(name).append(n)));
    for (let of = 0; of < 7; of += 1) {
      const own = calls.filter(({ n }) => n % 7 === of);
      expect(await logOf(db, `concurrent ${of}`)).toEqual(own.map(({ n }) => String(n)));
      expect(own.map(({ n }) => offsets[n]!.offset)).toEqual(own.map((_, index) => BigInt(index + 1)));
    }
  });

  test('I1: two processes that append to one stream share one row of offsets', async () => {
    await using other = await open({});
    const both = [sluice, other].map((from) =>
      Promise.all(Array.from({ length: 100 }, (_, n) => from.stream('shared').append(n))),
    );
    const offsets = (await Promise.all(both)).map((own) => own.map(({ offset }) => offset));
    for (const own of offsets) expect(own).toEqual([...own].sort((a, b) => Number(a - b)));
    expect(new Set(offsets.flat()).size).toBe(200);
    expect(await logOf(db, 'shared')).toHaveLength(200);
  });

  test('I1: what was published before is in the log before it', async () => {
    await publish(db, 'after published', 1, 2);
    expect((await sluice.stream('after published').append(3)).offset).toBe(3n);
    expect(await logOf(db, 'after published')).toEqual(['1', '2', '3']);
  });
});

describe('JSON', () => {
  test('interleaving 4: every value comes back as JSON would give it back, whatever is in its strings', async () => {
    const unit = fc.oneof(
      fc.constantFrom('\0', '\u001e', '\ud800', '\udfff', '\u2028', '\u2029', '\ufeff', '"', '\\', '\n'),
      fc.string({ unit: 'binary', minLength: 1, maxLength: 1 }),
    );
    const values = fc.sample(fc.jsonValue({ stringUnit: 'binary' }), 150);
    const strings = fc.sample(fc.string({ unit, maxLength: 20 }), 150);
    const all = [...values, ...strings, ...strings.map((text) => ({ [text]: [text] }))];
    const stream = sluice.stream('any value');
    await stream.appendMany(all.map((data) => ({ data })));
    await stream.publishMany(all.map((data) => ({ data })));
    await Promise.all(all.slice(0, 20).map((data) => stream.append(data)));
    const expected = JSON.parse(JSON.stringify([...all, ...all, ...all.slice(0, 20)])) as unknown[];
    const { events } = await stream.read();
    expect(events.map(({ data }) => data)).toEqual(expected);
  });

  test('a text written by SQL is kept as it was written', async () => {
    const texts = [
      '12345678901234567890.123456789e+400',
      '{ "b" : 1,\n"a" : 2, "b" : 3 }',
      '"\\u0041\\ud800"',
    ];
    for (const text of texts) await db.query('select sluice.append($1, $2)', ['as written', text]);
    await publish(db, 'as written', ...texts);
    await passAll(db);
    expect(await logOf(db, 'as written')).toEqual([...texts, ...texts]);
    const { events } = await sluice.stream('as written').read();
    expect(events[1]?.data).toEqual({ b: 3, a: 2 });
  });

  test('a type, a key and headers may be any text that PostgreSQL can hold', async () => {
    const stream = sluice.stream('texts');
    const headers = { '': '', 'x\r\n': '\u0000 \ud800', __proto__x: '🧾' };
    await stream.append(1, { type: "it's a “type” \\ 🧾", key: '\u0001 \n "key" {a,b} NULL', headers });
    await stream.appendMany([{ data: 2, key: 'NULL' }, { data: 3, key: '' }, { data: 4 }]);
    const { events } = await stream.read();
    expect(events[0]).toMatchObject({
      type: "it's a “type” \\ 🧾",
      key: '\u0001 \n "key" {a,b} NULL',
      headers,
    });
    expect(events.slice(1).map(({ key }) => key)).toEqual(['NULL', '', null]);
  });
});

describe('what is refused, before anything is written', () => {
  /** Each way to write one event or several. */
  const everyWay = async (data: unknown, options: object = {}): Promise<string[]> => {
    const stream = sluice.stream('refusals');
    const event = { data, ...options } as NewEvent;
    return Promise.all([
      codeOf(stream.append(data, options)),
      codeOf(stream.appendMany([{ data: 1 }, event])),
      codeOf(stream.publish(data, options)),
      codeOf(stream.publishMany([{ data: 1 }, event])),
    ]);
  };
  const all = (code: string): string[] => Array.from({ length: 4 }, () => code);
  const cyclic: { self?: unknown } = {};
  cyclic.self = cyclic;

  test.each<[string, unknown]>([
    ['undefined', undefined],
    ['a function', () => 1],
    ['a symbol', Symbol('s')],
    ['a bigint', 1n],
    ['a cycle', cyclic],
    ['NaN', Number.NaN],
    ['an infinity', -Infinity],
    ['an invalid date', new Date(Number.NaN)],
    ['a Map', new Map([[1, 2]])],
    ['a Set', new Set([1])],
    ['a promise', Promise.resolve(1)],
    ['a list of headers', new Headers({ a: 'b' })],
    [
      'what throws',
      {
        toJSON: () => {
          throw new Error('no');
        },
      },
    ],
  ])('data that has no JSON form: %s', async (_, data) => {
    expect(await everyWay(data)).toEqual(all('payload_invalid'));
  });

  test.each([
    ['name_invalid', { type: '' }],
    ['name_invalid', { type: 'open' }],
    ['name_invalid', { type: 'sluice:reset' }],
    ['name_invalid', { type: 'a\nb' }],
    ['name_invalid', { type: 'x'.repeat(129) }],
    ['name_invalid', { type: 5 }],
    ['payload_invalid', { key: '\0' }],
    ['payload_invalid', { key: '\ud800' }],
    ['payload_invalid', { key: 5 }],
    ['payload_invalid', { headers: { a: 5 } }],
    ['payload_invalid', { headers: 'a: 5' }],
    ['payload_invalid', { headers: ['a'] }],
    ['payload_invalid', { headers: new Headers({ a: '5' }) }],
    ['payload_invalid', { headers: new Map([['a', '5']]) }],
    ['payload_too_large', { headers: { a: 'x'.repeat(2 ** 20) } }],
  ])('%s: %j', async (code, options) => {
    expect(await everyWay(1, options)).toEqual(all(code));
  });

  test('I7: an event larger than 1 MiB of JSON, counted in bytes', async () => {
    const full = 'é'.repeat(2 ** 19 - 1); // with its quotes, 1 MiB
    expect(await everyWay(`${full}x`)).toEqual(all('payload_too_large'));
    await using small = await open({ maxEventBytes: 10 });
    expect(await codeOf(small.stream('refusals').append('12345678'))).toBe('ok');
    expect(await codeOf(small.stream('refusals').append('123456789'))).toBe('payload_too_large');
    expect(await codeOf(sluice.stream('large').append(full))).toBe('ok');
    expect(await logOf(db, 'large')).toEqual([JSON.stringify(full)]);
    expect(await logOf(db, 'refusals')).toEqual(['"12345678"']);
  });

  test('an event of a batch: the error says which', async () => {
    const stream = sluice.stream('refusals');
    for (const write of [stream.appendMany.bind(stream), stream.publishMany.bind(stream)]) {
      const failing = async (second: unknown): Promise<unknown> =>
        write([{ data: 1 }, second as NewEvent]).catch((error: unknown) => error);
      const unwritable = await failing({ data: 5n });
      expect(unwritable).toMatchObject({ code: 'payload_invalid', index: 1 });
      expect(String(unwritable)).toMatch(/: events\[1\]: the data cannot be written as JSON/);
      expect((unwritable as Error).cause).toBeInstanceOf(TypeError);
      const tooLarge = { data: 'x'.repeat(2 ** 20) };
      expect(await failing(tooLarge)).toMatchObject({ code: 'payload_too_large', index: 1 });
      expect(await failing({ data: 1, type: 'open' })).toMatchObject({ code: 'name_invalid', index: 1 });
      for (const none of [null, undefined, 'data']) {
        expect(await failing(none)).toBeInstanceOf(TypeError);
        expect(await failing(none)).toHaveProperty(
          'message',
          expect.stringMatching(/^events\[1\] .*{ data }/),
        );
      }
      await expect(write('data' as never)).rejects.toThrow(/events must be an array of { data }/);
    }
  });

  test('a batch without events, or with too many', async () => {
    const stream = sluice.stream('batches');
    await expect(stream.appendMany([])).rejects.toThrow(RangeError);
    await expect(stream.publishMany([])).rejects.toThrow(RangeError);
    const many = Array.from({ length: 10_001 }, () => ({ data: 1 }));
    expect(await codeOf(stream.appendMany(many))).toBe('payload_too_large');
    expect(await codeOf(stream.publishMany(many))).toBe('payload_too_large');
    expect((await stream.appendMany(many.slice(1))).last).toBe(10_000n);
  });

  test('a name that cannot be one, at once', () => {
    for (const name of ['', 'x'.repeat(513), 'a\nb', '\0', '\ud800', 5 as unknown as string]) {
      expect(() => sluice.stream(name)).toThrow(expect.objectContaining({ code: 'name_invalid' }));
    }
  });

  test('a closed stream', async () => {
    await sluice.stream('closed').append(1);
    await db.query(`select sluice.close_stream('closed')`);
    expect(await codeOf(sluice.stream('closed').append(2))).toBe('stream_closed');
    expect(await codeOf(sluice.stream('closed').publish(2))).toBe('stream_closed');
    await expect(db.query(`select sluice.append('closed', '2')`)).rejects.toMatchObject({ code: 'SL003' });
    expect(await logOf(db, 'closed')).toEqual(['1']);
  });

  test('a stream that does not exist, with autoCreate off', async () => {
    await using strict = await open({ autoCreate: false });
    expect(await codeOf(strict.stream('missing').append(1))).toBe('stream_not_found');
    expect(await codeOf(strict.stream('missing').publish(1))).toBe('stream_not_found');
    expect(await strict.stream('missing').info()).toBeNull();
    await strict.createStream('missing');
    expect((await strict.stream('missing').append(1)).offset).toBe(1n);
    await strict.deleteStream('missing');
    expect(await codeOf(strict.stream('missing').append(1))).toBe('stream_not_found');
  });

  test('a stream that was deleted begins again, as another one', async () => {
    const before = await sluice.stream('again').append(1);
    await sluice.deleteStream('again');
    const after = await sluice.stream('again').append(2);
    expect(after.offset).toBe(1n);
    expect(after.cursor.split('-')[0]).not.toBe(before.cursor.split('-')[0]);
    expect(await logOf(db, 'again')).toEqual(['2']);
  });

  test('none of it reached the outbox either', async () => {
    await passAll(db);
    expect(await pendingIn(db)).toBe(0);
    expect(await sluice.stream('batches').info()).toMatchObject({ head: 10_000n });
    expect(await logOf(db, 'refusals')).toEqual(['"12345678"']);
  });
});

describe('I7: one event’s fault is not another’s', () => {
  test('interleaving 4: JSON nested deeper than the server can read fails alone among those that went with it', async () => {
    const { connectionString } = db;
    const pool = new Pool({ connectionString, options: '-c max_stack_depth=100kB' });
    const shallow = await open({ pool });
    const data = ['first', nested(1500), 'third', nested(1500), 'fifth'];
    const names = ['deep', 'deep', 'deep', 'deep too', 'deep too'];
    const codes = data.map((each, n) => codeOf(shallow.stream(names[n]!).append(each)));
    expect(await Promise.all(codes)).toEqual(['ok', 'payload_invalid', 'ok', 'payload_invalid', 'ok']);
    expect(await logOf(db, 'deep')).toEqual(['"first"', '"third"']);
    expect(await logOf(db, 'deep too')).toEqual(['"fifth"']);
    expect(await codeOf(shallow.stream('deep').publish(nested(1500)))).toBe('payload_invalid');
    await shallow.close();
    await pool.end();
  });

  test('interleaving 5: a stream that a transaction holds delays nobody; its own append is overloaded, and not appended', async () => {
    await using impatient = await open({ appendTimeoutMs: 100 });
    await impatient.stream('held').append(1);
    await using holder = await openClient(db.connectionString);
    await holder.query('begin');
    await holder.query(`select sluice.append('held', '2')`);
    const overloaded = { code: 'overloaded', retryable: true };
    const held = expect(impatient.stream('held').append('never')).rejects.toMatchObject(overloaded); // perhaps before the others
    const others = ['a', 'b', 'held no more'].map((name) => impatient.stream(name).append(1));
    expect(await Promise.all(others.map(codeOf))).toEqual(['ok', 'ok', 'ok']);
    await held;
    await holder.query('commit');
    expect((await impatient.stream('held').append(3)).offset).toBe(3n);
    expect(await logOf(db, 'held')).toEqual(['1', '2', '3']);
  });

  test('interleaving 6: of two transactions that append in opposite order one is refused by PostgreSQL, the other goes on', async () => {
    await using one = await openClient(db.connectionString);
    await using two = await openClient(db.connectionString);
    for (const client of [one, two]) await client.query(`set deadlock_timeout = '20ms'; begin`);
    for (const name of ['left', 'right']) await sluice.stream(name).append(0);
    await one.query(`select sluice.append('left', '1')`);
    await two.query(`select sluice.append('right', '2')`);
    const pid = await backendOf(one);
    const crossing = one.query(`select sluice.append('right', '1')`);
    await until(() => isBlocked(db, pid));
    const outcomes = await Promise.allSettled([crossing, two.query(`select sluice.append('left', '2')`)]);
    const refused = outcomes.filter((outcome) => outcome.status === 'rejected');
    expect(refused).toMatchObject([{ reason: { code: '40P01' } }]);
    for (const client of [one, two]) await client.query('commit');
    expect([...(await logOf(db, 'left')), ...(await logOf(db, 'right'))].sort()).toHaveLength(4);
  });
});

describe('waiting', () => {
  test('an abort rejects with its reason: before the call nothing is sent, later the wait ends', async () => {
    const reason = new Error('enough');
    const stream = sluice.stream('aborted');
    const signal = AbortSignal.abort(reason);
    await expect(stream.append(1, { signal })).rejects.toBe(reason);
    await expect(stream.publish(1, { signal })).rejects.toBe(reason);
    await expect(stream.publishMany([{ data: 1 }], { signal })).rejects.toBe(reason);
    expect(await stream.info()).toBeNull();

    await stream.append(1);
    await using holder = await openClient(db.connectionString);
    await holder.query('begin');
    await holder.query(`select sluice.append('aborted', '2')`);
    const controller = new AbortController();
    const waiting = stream.append(3, { signal: controller.signal });
    controller.abort(reason);
    await expect(waiting).rejects.toBe(reason);
    await holder.query('commit');
    expect((await stream.append(4)).offset).toBeGreaterThanOrEqual(3n);
  });

  test('I11: close finishes what was accepted; after it everything is refused as closed', async () => {
    const closing = await open({});
    const stream = closing.stream('closing');
    const accepted = Promise.all(Array.from({ length: 50 }, (_, n) => stream.append(n)));
    await Promise.all([closing.close(), closing.close()]);
    expect((await accepted).at(-1)?.offset).toBe(50n);
    const calls = [
      stream.append(1),
      stream.publish(1),
      stream.read(),
      stream.info(),
      closing.createStream('x'),
    ];
    expect(await Promise.all(calls.map(codeOf))).toEqual(calls.map(() => 'closed'));
    await closing.close();
  });
});

describe('isolation levels', () => {
  test('interleaving 2: Sluice’s own sessions do not take up a level at which a head is stale', async () => {
    const name = new URL(db.connectionString).pathname.slice(1);
    await db.query(`alter database ${name} set default_transaction_isolation = 'serializable'`);
    try {
      await using own = await connect({ connectionString: db.connectionString });
      const stream = own.stream('own sessions');
      await stream.append(1);
      const events = stream.subscribe({ after: 1n })[Symbol.asyncIterator]();
      await stream.publish(2);
      expect((await events.next()).value).toMatchObject({ offset: 2n, data: 2 });
    } finally {
      await db.query(`alter database ${name} reset default_transaction_isolation`);
    }
  });

  test('in a user’s pool at such a level an append is refused, saying what to do', async () => {
    const { connectionString } = db;
    const pool = new Pool({ connectionString, options: '-c default_transaction_isolation=serializable' });
    const strict = await open({ pool });
    const error: unknown = await strict
      .stream('levels')
      .append(1)
      .catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'unsupported_server' });
    expect((error as Error).message).toMatch(/isolation level serializable; use read committed, or publish/);
    expect(await codeOf(strict.stream('levels').publish(2))).toBe('ok');
    await strict.close();
    await pool.end();
    await passAll(db);
    expect(await logOf(db, 'levels')).toEqual(['2']);
  });
});
