// Guards a stream's schema on the way out, with validateOnRead: readers get what the schema makes of each event, and one
// that does not fit is never left out in silence (I8): it stops the reader at its very place, says which it is, and lets
// the reader go on after it. Readers without the option see the stream as it is.
import { connect, SluiceError, type Position, type Sluice, type Stream, type StreamEvent } from 'sluice';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { deferred } from '../../src/util/deferred.ts';
import { useDatabase } from '../support/database.ts';
import { gatedSchema, refused, schemaOf } from '../support/payload-schemas.ts';

const db = useDatabase();
let sluice: Sluice;
beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString });
});
afterAll(() => sluice.close());

const order = z.object({
  id: z.int(),
  at: z.string().transform((text) => new Date(text)),
  n: z.int().default(1),
});
const fitting = (id: number): unknown => ({ id, at: '2026-01-01T00:00:00.000Z' });
const made = (id: number): unknown => ({ id, at: new Date('2026-01-01T00:00:00.000Z'), n: 1 });

/** Fills a stream past any schema, and gives it to a reader with one. */
const streamOf = async (
  name: string,
  payloads: readonly unknown[],
  schema: typeof order = order,
): Promise<Stream<z.input<typeof order>, z.output<typeof order>>> => {
  await sluice.stream(name).appendMany(payloads.map((data) => ({ data })));
  return sluice.stream(name, { schema, validateOnRead: true });
};
const misfitOf = (work: Promise<unknown>): Promise<SluiceError> =>
  work.then(
    () => expect.unreachable('it fits'),
    (error: unknown) => (error instanceof SluiceError ? error : expect.unreachable(String(error))),
  );
const take = async <T>(events: AsyncIterable<StreamEvent<T>>, count: number): Promise<StreamEvent<T>[]> => {
  const taken: StreamEvent<T>[] = [];
  for await (const event of events) if (taken.push(event) === count) break;
  return taken;
};
const dataOf = (events: readonly StreamEvent[]): unknown[] => events.map(({ data }) => data);

const later = order.refine(async () => true);
const history = [fitting(1), fitting(2), { id: 'x' }, fitting(4), 'nothing like it', null, fitting(7)];

describe.each([
  ['at once', order],
  ['later', later],
])('a schema that answers %s', (when, schema) => {
  test('transforms and defaults apply, also to the JSON of an event; without the option nothing does', async () => {
    const name = `made ${when}`;
    const stream = await streamOf(name, [fitting(1), fitting(2)], schema);
    const { events } = await stream.read();
    expect(dataOf(events)).toEqual([made(1), made(2)]);
    expect(events[0]?.data.at.getUTCFullYear()).toBe(2026);
    expect(JSON.parse(JSON.stringify(events[0]))).toMatchObject({ offset: '1', data: { id: 1, n: 1 } });
    expect(dataOf(await take(stream.subscribe(), 2))).toEqual([made(1), made(2)]);
    const asStored = [fitting(1), fitting(2)];
    for (const plain of [sluice.stream(name, { schema }), sluice.stream(name)]) {
      expect(dataOf((await plain.read()).events)).toEqual(asStored);
      expect(dataOf(await take(plain.subscribe(), 2))).toEqual(asStored);
    }
  });

  test('I8: read ends its page before an event that does not fit, and throws when it is the first', async () => {
    const name = `read ${when}`;
    const stream = await streamOf(name, history, schema);
    const page = await stream.read();
    expect(dataOf(page.events)).toEqual([made(1), made(2)]);
    expect(page).toMatchObject({ head: 7n, upToDate: false, cursor: page.events[1]?.cursor });
    const error = await misfitOf(stream.read({ after: page.cursor }));
    expect(error).toMatchObject({ code: 'payload_invalid', retryable: false, stream: name, offset: 3n });
    expect(error.issues?.map(({ path }) => path)).toEqual([['id'], ['at']]);
    expect(error.message).toMatch(
      `the event at offset 3 of stream "${name}" does not fit the schema: id: Invalid input: expected number`,
    );
    const next = await stream.read({ after: error.cursor ?? '' });
    expect(dataOf(next.events)).toEqual([made(4)]);
    expect((await stream.read({ after: 6n })).upToDate).toBe(true);
  });

  test('I8: subscribe gives what comes before it, throws at its place, and goes on after its cursor', async () => {
    const name = `subscribe ${when}`;
    const stream = await streamOf(name, history, schema);
    const seen: unknown[] = [];
    const misfits: unknown[] = [];
    let after: Position = 'start';
    while (seen.length < 5) {
      try {
        for await (const event of stream.subscribe({ after })) {
          seen.push(event.data);
          if (event.offset === 7n) await sluice.stream(name).append({ id: 'live' });
          if (event.offset === 9n) break;
        }
      } catch (error) {
        if (!(error instanceof SluiceError) || error.cursor === undefined) throw error;
        misfits.push([error.stream, error.offset]);
        after = error.cursor;
        if (error.offset === 8n) await sluice.stream(name).append(fitting(9));
      }
    }
    expect(seen).toEqual([1, 2, 4, 7, 9].map(made));
    expect(misfits).toEqual([3n, 5n, 6n, 8n].map((offset) => [name, offset]));
  });
});

test('an iteration that met an event that does not fit is over', async () => {
  const stream = await streamOf('over', [null, fitting(2)]);
  const iterator = stream.subscribe()[Symbol.asyncIterator]();
  await expect(iterator.next()).rejects.toMatchObject({ offset: 1n });
  expect(await iterator.next()).toEqual({ done: true, value: undefined });
});

test('a schema that throws tells the place too; one that answers what it may not is a TypeError', async () => {
  await sluice.stream('throws').append(1);
  const read = async (validate: () => unknown): Promise<unknown> =>
    sluice.stream('throws', { schema: schemaOf(validate), validateOnRead: true }).read();
  const cause = new Error('boom');
  const throwing = (): never => {
    throw cause;
  };
  const error = await misfitOf(read(throwing));
  expect(error).toMatchObject({ code: 'payload_invalid', offset: 1n, issues: undefined, cause });
  expect(error.cursor).toMatch(/./);
  await expect(read(() => ({}))).rejects.toThrow(TypeError);
});

test('a schema may make undefined of an event, and change the payload it is given', async () => {
  await sluice.stream('free').append({ id: 1 });
  const schema = schemaOf<object>((data) => {
    Object.assign(data as object, { id: 2 });
    return { value: undefined };
  });
  const { events } = await sluice.stream('free', { schema, validateOnRead: true }).read();
  expect(events.map(({ data }) => data)).toEqual([undefined]);
  expect(dataOf((await sluice.stream('free').read()).events)).toEqual([{ id: 1 }]);
});

describe('while a schema thinks', () => {
  const openGate = async (
    name: string,
  ): Promise<{ gate: ReturnType<typeof gatedSchema>; stream: Stream<string> }> => {
    const gate = gatedSchema();
    await sluice.stream(name).appendMany([{ data: '!a' }, { data: 'b' }, { data: '!c' }]);
    return { gate, stream: sluice.stream(name, { schema: gate.schema, validateOnRead: true }) };
  };

  test('read ends with the reason of its signal', async () => {
    const { gate, stream } = await openGate('signal');
    const stop = new AbortController();
    const read = stream.read({ signal: stop.signal });
    await gate.asked('b');
    stop.abort(new Error('stopped'));
    await expect(read).rejects.toThrow('stopped');
  });

  test.each(['signal', 'close'])('subscribe ends normally by %s, without the event', async (by) => {
    const { gate, stream } = await openGate(`ends by ${by}`);
    const stop = new AbortController();
    const subscription = stream.subscribe({ signal: stop.signal });
    const seen: string[] = [];
    const reading = (async () => {
      for await (const { data } of subscription) seen.push(data);
    })();
    await gate.asked('b');
    if (by === 'signal') stop.abort(new Error('stopped'));
    else await subscription.close();
    await reading;
    gate.answer('b', refused('too late')); // and nobody is told of it
    expect(seen).toEqual(['!a']);
  });

  test('I2: asked for several events at once, they come in order, and none after one that does not fit', async () => {
    const { gate, stream } = await openGate('several');
    const iterator = stream.subscribe()[Symbol.asyncIterator]();
    const asked = [iterator.next(), iterator.next(), iterator.next()];
    await gate.asked('b');
    gate.answer('b');
    const values = (await Promise.all(asked)).map((result) => (result.value as StreamEvent).data);
    expect(values).toEqual(['!a', 'b', '!c']);
    await iterator.return?.();

    const again = await openGate('several that fail');
    const failing = again.stream.subscribe()[Symbol.asyncIterator]();
    const results = Promise.allSettled([failing.next(), failing.next(), failing.next()]);
    await again.gate.asked('b');
    again.gate.answer('b', refused('no'));
    expect(await results).toMatchObject([
      { status: 'fulfilled', value: { value: { data: '!a' } } },
      { status: 'rejected', reason: { offset: 2n } },
      { status: 'fulfilled', value: { done: true } },
    ]);
  });

  test('a slow reader delays nobody else', async () => {
    const { gate, stream } = await openGate('slow');
    const stop = new AbortController();
    const stuck = deferred();
    const reading = (async () => {
      for await (const event of stream.subscribe({ signal: stop.signal })) void event;
      stuck.resolve();
    })();
    await gate.asked('b');
    expect(dataOf(await take(sluice.stream('slow').subscribe(), 3))).toEqual(['!a', 'b', '!c']);
    stop.abort();
    await Promise.all([reading, stuck.promise]);
  });
});
