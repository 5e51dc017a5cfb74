// Guards a stream's schema on the way in: what does not fit is refused with its issues and nothing is written; what fits
// is stored as it was given; and asking the schema, at once or later, changes neither the order of one caller's calls nor
// what a transaction does (I1, I3).
import { connect, SluiceError, type Sluice, type Stream } from 'sluice';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { logOf, passAll, pendingIn } from '../support/log-sql.ts';
import { gatedSchema, schemaOf } from '../support/payload-schemas.ts';

const db = useDatabase();
let sluice: Sluice;
beforeAll(async () => {
  // Nobody moves anything but passAll, so that a test decides when.
  sluice = await connect({ connectionString: db.connectionString, relay: false, fallbackPollMs: 600_000 });
});
afterAll(() => sluice.close());

const refusalOf = (work: Promise<unknown>): Promise<SluiceError> =>
  work.then(
    () => expect.unreachable('it was accepted'),
    (error: unknown) => (error instanceof SluiceError ? error : expect.unreachable(String(error))),
  );
const delivered = async (stream: string): Promise<string[]> => {
  await passAll(db);
  return logOf(db, stream);
};

const order = z.object({ id: z.int(), items: z.array(z.object({ name: z.string() })) });
type Order = z.input<typeof order>;
const bad = { id: 1, items: [{ name: 'a' }, { name: 2 }] } as unknown as Order;
const good: Order = { id: 1, items: [] };

describe.each([
  ['at once', order],
  ['later', order.refine(async ({ id }) => id > 0)],
])('a schema that answers %s', (when, schema) => {
  const name = `refused ${when}`;
  const writes: [string, (stream: Stream<Order>) => Promise<unknown>, number | undefined][] = [
    ['append', (stream) => stream.append(bad), undefined],
    ['publish', (stream) => stream.publish(bad), undefined],
    ['appendMany', (stream) => stream.appendMany([{ data: good }, { data: bad }, { data: good }]), 1],
    ['publishMany', (stream) => stream.publishMany([{ data: good }, { data: bad }, { data: bad }]), 1],
    ['appendMany of one', (stream) => stream.appendMany([{ data: bad }]), 0],
  ];

  test.each(writes)('%s refuses what does not fit, and writes nothing', async (_, write, index) => {
    const stream = sluice.stream(name, { schema });
    const error = await refusalOf(write(stream));
    expect(error).toMatchObject({
      code: 'payload_invalid',
      retryable: false,
      index,
      issues: [{ message: expect.stringContaining('expected string'), path: ['items', 1, 'name'] }],
    });
    expect(error.message).toMatch(
      `${index === undefined ? 'the data' : `events[${index}]`} does not fit the schema of stream "${name}": items[1].name: `,
    );
    expect(error.message).toMatch(/expected string.*; nothing was written$/);
    expect(await pendingIn(db, name)).toBe(0);
    expect(await stream.info()).toBeNull();
  });

  test('the transaction of a refused publish goes on', async () => {
    const stream = sluice.stream(`tx ${when}`, { schema });
    await using client = await openClient(db.connectionString);
    await client.query('begin');
    await refusalOf(stream.publish(bad, { tx: client }));
    await stream.publish({ ...good, id: 2 }, { tx: client });
    await client.query('commit');
    expect(await delivered(`tx ${when}`)).toEqual(['{"id":2,"items":[]}']);
  });

  test('what fits is written by all four', async () => {
    const stream = sluice.stream(`fits ${when}`, { schema });
    await stream.append(good);
    expect((await stream.appendMany([{ data: good }, { data: good }])).last).toBe(3n);
    await stream.publish(good);
    expect((await stream.publishMany([{ data: good }, { data: good }])).ids).toHaveLength(2);
    expect(await delivered(`fits ${when}`)).toHaveLength(6);
  });
});

describe('stored as given', () => {
  test('not what a schema makes of it, nor what it does to it', async () => {
    const changing = z.object({ text: z.string().trim(), n: z.int().default(1) }).transform(() => 'other');
    await sluice.stream('given', { schema: changing }).append({ text: ' a ' });
    const meddling = schemaOf<{ id: number }>((data) => {
      (data as { id: number }).id = 99;
      return { value: data };
    });
    await sluice.stream('given', { schema: meddling }).append({ id: 1 });
    expect(await delivered('given')).toEqual(['{"text":" a "}', '{"id":1}']);
  });

  test('as it was at the call, whatever becomes of it while the schema thinks', async () => {
    const gate = gatedSchema();
    const data = { toString: () => 'data', id: 1 } as unknown as string;
    const appended = sluice.stream('then', { schema: gate.schema }).append(data);
    (data as unknown as { id: number }).id = 2;
    gate.answer('data');
    await appended;
    expect(await delivered('then')).toEqual(['{"id":1}']);
  });
});

describe('a schema that misbehaves', () => {
  test('one that throws or rejects has refused; the error has the cause and no issues', async () => {
    const cause = new Error('boom');
    const throwing = schemaOf(() => {
      throw cause;
    });
    for (const schema of [throwing, schemaOf(() => Promise.reject(cause))]) {
      const error = await refusalOf(sluice.stream('thrown', { schema }).append(1));
      expect(error).toMatchObject({ code: 'payload_invalid', issues: undefined, cause });
      expect(error.message).toMatch(/the schema threw "boom"; nothing was written/);
    }
    expect(await sluice.stream('thrown').info()).toBeNull();
  });

  test('one that answers what it may not is a TypeError', async () => {
    for (const schema of [schemaOf(() => true), schemaOf(() => Promise.resolve({}))]) {
      await expect(sluice.stream('wrong', { schema }).publish(1)).rejects.toThrow(TypeError);
    }
    expect(await pendingIn(db, 'wrong')).toBe(0);
  });

  test('what is no schema is a TypeError, before anything else', () => {
    const stream = sluice.stream.bind(sluice) as (name: string, options: unknown) => unknown;
    expect(() => stream('none', { schema: { parse: () => 1 } })).toThrow(TypeError);
    expect(() => stream('none', { validateOnRead: true })).toThrow(TypeError);
    expect(() => stream('none', null)).toThrow(TypeError);
  });
});

describe('I3: a schema that answers at once costs no tick', () => {
  test('publish is sent before any statement that the caller sends next', async () => {
    const stream = sluice.stream('tick', { schema: z.string() });
    await using client = await openClient(db.connectionString);
    // Two statements at once, not three, of which some versions of pg warn.
    const calls = [
      (data: string) => stream.publish(`${data} 1`, { tx: client }),
      (data: string) => stream.publishMany([{ data: `${data} 2` }], { tx: client }),
    ];
    for (const end of ['rollback', 'commit']) {
      for (const call of calls) {
        await client.query('begin');
        await Promise.all([call(end), client.query(end)]);
      }
    }
    expect(await delivered('tick')).toEqual(['"commit 1"', '"commit 2"']);
  });
});

describe('I1: calls keep their order while a schema thinks', () => {
  test('appends through one handle, whichever is answered first; those of other handles do not wait', async () => {
    const gate = gatedSchema();
    const stream = sluice.stream('order', { schema: gate.schema });
    const slow = stream.append('slow');
    const many = stream.appendMany([{ data: 'fast' }, { data: '!at once' }]);
    const atOnce = stream.append('!at once too');
    gate.answer('fast');
    // Would be second if any of them had been sent.
    expect((await sluice.stream('order').append('other')).offset).toBe(1n);
    gate.answer('slow');
    expect((await slow).offset).toBe(2n);
    expect((await many).first).toBe(3n);
    expect((await atOnce).offset).toBe(5n);
  });

  test('publishes of one transaction; those of other transactions do not wait', async () => {
    const gate = gatedSchema();
    const stream = sluice.stream('tx order', { schema: gate.schema });
    await using one = await openClient(db.connectionString);
    await using two = await openClient(db.connectionString);
    await Promise.all([one.query('begin'), two.query('begin')]);
    const slow = stream.publish('slow', { tx: one });
    const fast = stream.publish('!fast', { tx: one });
    await stream.publish('!other', { tx: two });
    await stream.append('!appended');
    await two.query('commit');
    expect(await delivered('tx order')).toEqual(['"!appended"', '"!other"']);
    gate.answer('slow');
    await Promise.all([slow, fast]);
    await one.query('commit');
    expect((await delivered('tx order')).slice(2)).toEqual(['"slow"', '"!fast"']);
  });

  test('one that is refused, or abandoned, lets the next go on', async () => {
    const gate = gatedSchema();
    const stream = sluice.stream('go on', { schema: gate.schema });
    const stop = new AbortController();
    const refused = stream.append('refused');
    const abandoned = stream.append('abandoned', { signal: stop.signal });
    const next = stream.append('!next');
    gate.answer('refused', { issues: [{ message: 'no' }] });
    await refusalOf(refused);
    stop.abort(new Error('enough'));
    await expect(abandoned).rejects.toThrow('enough');
    await next;
    gate.answer('abandoned'); // too late
    await stream.append('!last');
    expect(await delivered('go on')).toEqual(['"!next"', '"!last"']);
  });

  test('a publish that outlives its transaction is refused, not committed alone', async () => {
    const gate = gatedSchema();
    await using client = await openClient(db.connectionString);
    await client.query('begin');
    const published = sluice.stream('late', { schema: gate.schema }).publish('late', { tx: client });
    await client.query('commit');
    gate.answer('late');
    expect(await refusalOf(published)).toMatchObject({ code: 'tx_required' });
    expect(await pendingIn(db, 'late')).toBe(0);
  });
});

test('what else a call asks for holds after the wait as well', async () => {
  const later = schemaOf<number>((data) => Promise.resolve({ value: data }));
  const stream = sluice.stream('demands', { schema: later });
  await Promise.all([
    stream.append(1, { expectedOffset: 1n, idempotencyKey: 'one' }),
    stream.append(2, { expectedOffset: 2n, type: 'two' }),
  ]);
  expect(await stream.append(1, { idempotencyKey: 'one' })).toMatchObject({ offset: 1n, duplicate: true });
  expect(await refusalOf(stream.append(3, { expectedOffset: 2n }))).toMatchObject({
    code: 'offset_conflict',
  });
  await stream.publish(4, { delayMs: 3_600_000 });
  await Promise.all([1, 2].map(() => stream.publish(5, { idempotencyKey: 'five' })));
  await expect(stream.publish(6, { delayMs: -1 })).rejects.toThrow(RangeError);
  expect(await delivered('demands')).toEqual(['1', '2', '5']);
});

describe('signals and bounds', () => {
  test('every write ends with the reason, and a batch asks no further', async () => {
    const gate = gatedSchema();
    const stream = sluice.stream('signals', { schema: gate.schema });
    for (const write of [
      (signal: AbortSignal) => stream.append('held', { signal }),
      (signal: AbortSignal) => stream.publish('held', { signal }),
      (signal: AbortSignal) => stream.appendMany([{ data: 'held' }], { signal }),
      (signal: AbortSignal) => stream.publishMany([{ data: 'held' }], { signal }),
    ]) {
      const stop = new AbortController();
      const written = write(stop.signal);
      stop.abort(new Error('stopped'));
      await expect(written).rejects.toThrow('stopped');
    }
    const stop = new AbortController();
    let asked = 0;
    const counting = schemaOf<number>(async (data) => {
      asked += 1;
      stop.abort(new Error('stopped'));
      return { value: data };
    });
    const batch = Array.from({ length: 100 }, (_, data) => ({ data }));
    const written = sluice.stream('signals', { schema: counting }).appendMany(batch, { signal: stop.signal });
    await expect(written).rejects.toThrow('stopped');
    expect(asked).toBe(1);
    expect(await sluice.stream('signals').info()).toBeNull();
  });

  test('I7: what waits behind a schema that hangs, and too much that waits, is overloaded', async () => {
    const gate = gatedSchema();
    await using bounded = await connect({
      connectionString: db.connectionString,
      relay: false,
      fallbackPollMs: 600_000,
      appendTimeoutMs: 20,
      maxQueuedEvents: 2,
    });
    const stream = bounded.stream('bounds', { schema: gate.schema });
    const hung = stream.append('hung');
    const behind = stream.append('!behind');
    expect(await refusalOf(stream.append('!over'))).toMatchObject({
      code: 'overloaded',
      message: expect.stringMatching(/^2 events \(\d+ bytes\) wait for a schema's answer/),
    });
    expect(await refusalOf(behind)).toMatchObject({
      code: 'overloaded',
      message: expect.stringMatching(/earlier call/),
    });
    gate.answer('hung'); // its own schema may take its time
    await hung;
    await stream.append('!after');
    expect(await delivered('bounds')).toEqual(['"hung"', '"!after"']);
  });

  test('closing: what still waits for its schema was not accepted', async () => {
    const gate = gatedSchema();
    const other = await connect({ connectionString: db.connectionString, relay: false });
    const stream = other.stream('closing', { schema: gate.schema });
    const writes = [stream.append('appended'), stream.publish('published')];
    await other.close();
    for (const payload of ['appended', 'published']) gate.answer(payload);
    for (const write of writes) expect(await refusalOf(write)).toMatchObject({ code: 'closed' });
  });
});
