// Guards I8: history that is gone, or is another one, is thrown at the reader with the place where it can go on, on
// resume as well as under a live subscription. It is never skipped in silence.
import {
  connect,
  SluiceError,
  type ConnectOptions,
  type Sluice,
  type Stream,
  type StreamEvent,
} from 'sluice';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { namesFor } from '../../src/db/names.ts';
import { parsePosition } from '../../src/protocol/position.ts';
import { coreOf } from '../../src/sluice/connect.ts';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';

const db = useDatabase();
const open = (options: ConnectOptions = {}): Promise<Sluice> =>
  connect({ connectionString: db.connectionString, fallbackPollMs: 600_000, ...options });

/** Finds out by notifications alone: its poll does not come round while a test runs. */
let sluice: Sluice;
/** Writes what the other has to hear of. */
let elsewhere: Sluice;

beforeAll(async () => {
  [sluice, elsewhere] = await Promise.all([open(), open()]);
});
afterAll(async () => {
  await Promise.all([sluice.close(), elsewhere.close()]);
});

let names = 0;
/** A stream of its own with `count` events, which say which history they are of. */
const streamOf = async (count: number): Promise<Stream<string>> => {
  const stream = elsewhere.stream<string>(`history ${(names += 1)}`);
  await elsewhere.createStream(stream.name);
  await write(stream, count);
  return sluice.stream<string>(stream.name);
};
const write = async ({ name }: Stream<string>, count: number): Promise<void> => {
  const events = Array.from({ length: count }, () => ({ data: 'A' }));
  if (count > 0) await elsewhere.stream<string>(name).appendMany(events);
};
const cursorAt = async (stream: Stream<string>, offset: bigint): Promise<string> =>
  offset === 0n
    ? (await stream.read({ limit: 1 })).cursor.replace(/-.*/, '-0-0')
    : (await stream.read({ after: offset - 1n, limit: 1 })).cursor;

/** All up to and with `offset` is gone; its rows are still there, or not, as the background has it. */
const trim = async ({ name }: Stream<string>, offset: number): Promise<void> => {
  await elsewhere.stream(name).trim({ before: BigInt(offset) + 1n });
};

/** What a lossy failover does: the events after `keep` are taken back, and `count` others stand there. */
const rewrite = async ({ name }: Stream<string>, keep: number, count: number): Promise<void> => {
  await using client = await openClient(db.connectionString);
  await client.query('begin');
  await client.query(
    'delete from sluice.events e using sluice.streams s where s.name = $1 and e.stream_id = s.id and e."offset" > $2',
    [name, keep],
  );
  await client.query(
    `insert into sluice.events (stream_id, "offset", at, tag, size, data)
     select s.id, $2::integer + n, clock_timestamp(), (random() * 4294967295 - 2147483648)::integer, 3, '"B"'
     from sluice.streams s, generate_series(1, $3::integer) n where s.name = $1`,
    [name, keep, count],
  );
  await client.query('commit');
};

/** Wakes the readers of a stream in every process, as one that appended would. */
const ring = async ({ name }: Stream<string>, head = 2n ** 62n): Promise<void> => {
  const { rows } = await db.query<{ id: string }>('select id from sluice.streams where name = $1', [name]);
  const payload = `${BigInt(rows[0]!.id).toString(36)}:${head.toString(36)}`;
  await db.query('select pg_notify($1, $2)', [namesFor('sluice').readersChannel, payload]);
};

type Got = [offset: number, data: string];
const got = ({ offset, data }: StreamEvent<string>): Got => [Number(offset), data];
const events = (data: string, first: number, last: number): Got[] =>
  Array.from({ length: last - first + 1 }, (_, index) => [first + index, data]);

/** Reads on by hand, so that a test decides when the consumer is slow. */
class Consumer {
  readonly got: Got[] = [];
  readonly #iterator: AsyncIterator<StreamEvent<string>>;
  readonly ready: Promise<void>;

  constructor(stream: Stream<string>, after: bigint | string) {
    const subscription = stream.subscribe({ after });
    this.ready = subscription.ready;
    this.#iterator = subscription[Symbol.asyncIterator]();
  }
  async take(count: number): Promise<void> {
    for (let left = count; left > 0; left -= 1) {
      const { done, value } = await this.#iterator.next();
      if (done === true) throw new Error('the subscription ended');
      this.got.push(got(value));
    }
  }
  /** Whatever ends it. */
  async end(): Promise<SluiceError> {
    try {
      for (;;) await this.take(1);
    } catch (error) {
      if (error instanceof SluiceError) return error;
      throw error;
    }
  }
  async close(): Promise<void> {
    await this.#iterator.return?.();
  }
}

/** The error carries the place to go on from, and that place works for reading and subscribing alike. */
const expectLoss = async (
  stream: Stream<string>,
  error: unknown,
  expected: { code: 'cursor_expired' | 'cursor_reset'; oldest: bigint; rest: Got[] },
): Promise<void> => {
  const { code, oldest, rest } = expected;
  expect(error).toBeInstanceOf(SluiceError);
  const { oldestCursor } = error as SluiceError;
  expect(error).toMatchObject({ code, oldest, oldestCursor: expect.any(String), retryable: false });
  expect((await stream.read({ after: oldestCursor })).events.map(got)).toEqual(rest);
  const consumer = new Consumer(stream, oldestCursor!);
  await consumer.take(rest.length);
  expect(consumer.got).toEqual(rest);
  await consumer.close();
};

/** Both ways to resume from a position tell the same loss. */
const expectLost = async (
  stream: Stream<string>,
  after: bigint | string,
  expected: Parameters<typeof expectLoss>[2],
): Promise<void> => {
  await expectLoss(stream, await stream.read({ after }).catch((error: unknown) => error), expected);
  const subscription = stream.subscribe({ after });
  await expectLoss(stream, await subscription.ready.catch((error: unknown) => error), expected);
  const iterator = subscription[Symbol.asyncIterator]();
  await expectLoss(stream, await iterator.next().catch((error: unknown) => error), expected);
  expect(await iterator.next()).toEqual({ done: true, value: undefined });
};

describe('on resume', () => {
  test('I8: a position that was trimmed away is expired', async () => {
    const stream = await streamOf(6);
    const second = await cursorAt(stream, 2n);
    await trim(stream, 4);
    const expected = { code: 'cursor_expired', oldest: 5n, rest: events('A', 5, 6) } as const;
    for (const after of [second, 0n, '0', 3n]) await expectLost(stream, after, expected);
  });

  test('I8: a stream trimmed to its head is expired too, and goes on with the next event', async () => {
    const stream = await streamOf(3);
    const second = await cursorAt(stream, 2n);
    const third = await cursorAt(stream, 3n);
    await trim(stream, 3);
    await expectLost(stream, second, { code: 'cursor_expired', oldest: 4n, rest: [] });
    expect(await stream.read({ after: third })).toMatchObject({ head: 3n, oldest: 4n, upToDate: true });
    const consumer = new Consumer(stream, third);
    await consumer.ready;
    await write(stream, 1);
    await consumer.take(1);
    expect(consumer.got).toEqual([[4, 'A']]);
    await consumer.close();
    await expectLost(stream, second, { code: 'cursor_expired', oldest: 4n, rest: [[4, 'A']] });
  });

  test("'start' of a trimmed stream is the oldest there is, with any limit", async () => {
    const stream = await streamOf(8);
    await trim(stream, 4);
    expect((await stream.read()).events.map(got)).toEqual(events('A', 5, 8));
    for (const limit of [1, 2, 5, 8]) {
      const page = await stream.read({ after: 'start', limit });
      expect(page.events.map(got)).toEqual(events('A', 5, Math.min(8, 4 + limit)));
      expect(page).toMatchObject({ oldest: 5n, head: 8n, upToDate: limit >= 4 });
    }
    const consumer = new Consumer(stream, 'start');
    await consumer.take(4);
    expect(consumer.got).toEqual(events('A', 5, 8));
    await consumer.close();
  });

  test('I8: a cursor on the last trimmed event goes on, and one with another tag is of another history', async () => {
    const stream = await streamOf(6);
    const fourth = await cursorAt(stream, 4n);
    await trim(stream, 4);
    for (const after of [fourth, 4n]) {
      expect((await stream.read({ after })).events.map(got)).toEqual(events('A', 5, 6));
    }
    const [incarnation, offset] = fourth.split('-');
    const forged = `${incarnation}-${offset}-1`;
    await expectLost(stream, forged, { code: 'cursor_reset', oldest: 5n, rest: events('A', 5, 6) });
  });

  test('I8: a stream deleted and created again is another history, however far it has come', async () => {
    const stream = await streamOf(3);
    const [start, second] = [await cursorAt(stream, 0n), await cursorAt(stream, 2n)];
    await elsewhere.deleteStream(stream.name);
    await elsewhere.createStream(stream.name);
    await expectLost(stream, second, { code: 'cursor_reset', oldest: 1n, rest: [] });
    await write(stream, 4);
    const expected = { code: 'cursor_reset', oldest: 1n, rest: events('A', 1, 4) } as const;
    await expectLost(stream, second, expected);
    await expectLost(stream, start, expected);
  });

  test('I8: a position the stream has not reached, and a forged tag, are of another history', async () => {
    const stream = await streamOf(3);
    const [incarnation, offset, tag] = (await cursorAt(stream, 2n)).split('-');
    const expected = { code: 'cursor_reset', oldest: 1n, rest: events('A', 1, 3) } as const;
    for (const after of [4n, '4', `${incarnation}-4-${tag}`, `${incarnation}-${offset}-0`]) {
      await expectLost(stream, after, expected);
    }
  });

  test('I8: after a failover that lost events, only cursors on what is left go on (interleaving 22)', async () => {
    const stream = await streamOf(5);
    const cursors = await Promise.all([3n, 4n, 5n].map((offset) => cursorAt(stream, offset)));
    await rewrite(stream, 3, 3);
    const [third, fourth, fifth] = cursors as [string, string, string];
    expect((await stream.read({ after: third })).events.map(got)).toEqual(events('B', 4, 6));
    const rest = [...events('A', 1, 3), ...events('B', 4, 6)];
    for (const after of [fourth, fifth])
      await expectLost(stream, after, { code: 'cursor_reset', oldest: 1n, rest });
  });

  test('I8: a resume is not served from the memory of a tail that still has the other history', async () => {
    const stream = await streamOf(2);
    const live = new Consumer(stream, 'start');
    await live.take(2);
    await write(stream, 3);
    await live.take(3);
    await rewrite(stream, 3, 2); // nobody has heard of it yet
    const third = await cursorAt(stream, 3n);
    const fifth = await cursorAt(stream, 5n);
    const resumed = new Consumer(stream, fifth);
    await resumed.ready;
    await write(stream, 1);
    await resumed.take(1);
    expect(resumed.got).toEqual([[6, 'A']]);
    const behind = new Consumer(stream, third);
    await behind.take(3);
    expect(behind.got).toEqual([...events('B', 4, 5), [6, 'A']]);
    const error = await live.end();
    const rest = [...events('A', 1, 3), ...events('B', 4, 5), [6, 'A'] as Got];
    await expectLoss(stream, error, { code: 'cursor_reset', oldest: 1n, rest });
    await Promise.all([resumed.close(), behind.close()]);
  });
});

test('I8: a reader of the new history is not served from the memory of the old one', async () => {
  const stream = await streamOf(2);
  const live = new Consumer(stream, 'start');
  await live.take(2);
  await write(stream, 3);
  await live.take(3);
  await rewrite(stream, 3, 2); // the tail has not heard of it, and still holds the other 4 and 5
  const reader = new Consumer(stream, await cursorAt(stream, 4n));
  await reader.take(1);
  expect(reader.got).toEqual([[5, 'B']]);
  expect(await live.end()).toMatchObject({ code: 'cursor_reset' });
  await write(stream, 1);
  await reader.take(1);
  expect(reader.got).toEqual([
    [5, 'B'],
    [6, 'A'],
  ]);
  await reader.close();
});

test('I8: a resume that costs no query is told the oldest there is, as the tail last saw it', async () => {
  const stream = await streamOf(4);
  await trim(stream, 2);
  const live = new Consumer(stream, 'start');
  await live.take(2);
  const oldestTo = async (after: string): Promise<bigint> => {
    const sink = { write: () => true, lost: () => {}, ended: () => {} };
    const subscription = await coreOf(sluice).tails.subscribe(stream.name, parsePosition(after)!, sink);
    subscription.close();
    return (subscription.opened as { oldest: bigint }).oldest;
  };
  expect(await oldestTo('start')).toBe(3n);
  expect(await oldestTo(await cursorAt(stream, 4n))).toBe(3n);
  await trim(stream, 4);
  await write(stream, 1);
  await live.take(1);
  expect(await oldestTo(await cursorAt(stream, 5n))).toBe(5n);
  await live.close();
});

test.each([
  ['to a process where others read the stream', true],
  ['to a process that has just started', false],
])(
  'I7, I2: of many who come back near each other, %s, few ask the database, and all get what they lack',
  async (_, isRead) => {
    await using small = await open({ windowEvents: 1 });
    const stream = await streamOf(2500);
    const others = isRead ? [new Consumer(small.stream(stream.name), 'end')] : [];
    await Promise.all(others.map(({ ready }) => ready));
    const offsets = Array.from({ length: 50 }, (_, n) => 40 * n);
    const cursors = await Promise.all(offsets.map((offset) => cursorAt(stream, BigInt(offset))));
    const asked = vi.spyOn(coreOf(small).database, 'rows');
    const readers = cursors.map((cursor) => new Consumer(small.stream(stream.name), cursor));
    await Promise.all(readers.map((reader, n) => reader.take(2500 - offsets[n]!)));
    expect(asked.mock.calls.length).toBeLessThan(30); // by 50 that begin, and read up to three pages each
    for (const [n, reader] of readers.entries())
      expect(reader.got).toEqual(events('A', offsets[n]! + 1, 2500));
    await Promise.all([...others, ...readers].map((reader) => reader.close()));
  },
);

describe('under a live subscription', () => {
  test('I8: a trim reaches who is behind it, and nobody who is at the head', async () => {
    await using small = await open({ windowEvents: 3 });
    const stream = await streamOf(2);
    const [slow, live] = [0n, 0n].map((after) => new Consumer(small.stream(stream.name), after));
    await slow!.take(1); // and has the second at hand
    await live!.take(2);
    await write(stream, 10);
    await live!.take(10);
    await trim(stream, 8);
    const error = await slow!.end();
    expect(slow!.got).toEqual(events('A', 1, 2));
    await expectLoss(stream, error, { code: 'cursor_expired', oldest: 9n, rest: events('A', 9, 12) });
    await write(stream, 1);
    await live!.take(1);
    expect(live!.got).toEqual(events('A', 1, 13));
    await live!.close();
  });

  test('I8: a trim between two pages of a replay is told, and so is another history', async () => {
    const trimmed = await streamOf(1500);
    const replay = new Consumer(trimmed, 'start');
    await replay.take(1);
    await trim(trimmed, 1200);
    const expired = await replay.end();
    expect(replay.got).toEqual(events('A', 1, 1000));
    const rest = events('A', 1201, 1500);
    await expectLoss(trimmed, expired, { code: 'cursor_expired', oldest: 1201n, rest });

    const rewritten = await streamOf(1500);
    const other = new Consumer(rewritten, 'start');
    await other.take(1);
    await rewrite(rewritten, 900, 1000);
    expect(await other.end()).toMatchObject({ code: 'cursor_reset', oldest: 1n });
    expect(other.got).toEqual(events('A', 1, 1000));
  });

  const failovers = [
    { what: 'a longer history', keep: 3, count: 3 },
    { what: 'one that ends at the same offset', keep: 3, count: 2 },
    { what: 'a shorter one', keep: 3, count: 1 },
    { what: 'one that only lacks events', keep: 3, count: 0 },
  ];
  const told = (count: number): Parameters<typeof expectLoss>[2] => ({
    code: 'cursor_reset',
    oldest: 1n,
    rest: [...events('A', 1, 3), ...events('B', 4, 3 + count)],
  });
  /** Two subscribers of a stream at 5 events: one has them all, the other has stopped at the third. */
  const standing = async (
    through: Sluice,
  ): Promise<{ stream: Stream<string>; live: Consumer; third: Consumer }> => {
    const { name } = await streamOf(3);
    const stream = through.stream<string>(name);
    const [live, third] = [new Consumer(stream, 'start'), new Consumer(stream, 'start')];
    await Promise.all([live.take(3), third.take(3)]);
    await write(stream, 2);
    await live.take(2);
    return { stream, live, third };
  };

  test.each(failovers)(
    'I8: a failover to $what is told at the next wake-up (interleaving 22)',
    async ({ keep, count }) => {
      const { stream, live, third } = await standing(sluice);
      const last = await cursorAt(stream, 5n);
      await rewrite(stream, keep, count);
      const resumed = new Consumer(stream, last); // from the memory of a tail that has not heard of it either
      await resumed.ready;
      const ends = Promise.all([live.end(), resumed.end()]);
      await ring(stream);
      for (const error of await ends) await expectLoss(stream, error, told(count));
      expect([live.got, resumed.got]).toEqual([events('A', 1, 5), []]);
      // What it stands on is still there: it goes on in the history there is now.
      await third.take(count);
      await write(stream, 1);
      await third.take(1);
      expect(third.got).toEqual([...events('A', 1, 3), ...events('B', 4, 3 + count), [4 + count, 'A']]);
      await third.close();
    },
  );

  test.each(failovers)('I4 I8: a failover to $what is found by the poll alone', async ({ keep, count }) => {
    await using polling = await open({ fallbackPollMs: 30 });
    const { stream, live, third } = await standing(polling);
    await rewrite(stream, keep, count);
    await expectLoss(stream, await live.end(), told(count));
    expect(live.got).toEqual(events('A', 1, 5));
    await third.take(count);
    expect(third.got).toEqual([...events('A', 1, 3), ...events('B', 4, 3 + count)]);
    await third.close();
  });

  test('I8: an append by the same process does not join two histories by their offsets', async () => {
    const { stream, live, third } = await standing(sluice);
    await rewrite(stream, 3, 2);
    await stream.append('C'); // the sixth, as it would have been
    const rest: Got[] = [...events('A', 1, 3), ...events('B', 4, 5), [6, 'C']];
    await expectLoss(stream, await live.end(), { code: 'cursor_reset', oldest: 1n, rest });
    expect(live.got).toEqual(events('A', 1, 5));
    await third.take(3);
    expect(third.got).toEqual(rest);
    await third.close();
  });

  test('I8: a subscriber at the start goes on in whatever history there is', async () => {
    const stream = await streamOf(0);
    const consumer = new Consumer(stream, 'start');
    await consumer.ready;
    await rewrite(stream, 0, 2);
    await ring(stream);
    await consumer.take(2);
    expect(consumer.got).toEqual(events('B', 1, 2));
    await rewrite(stream, 0, 3);
    await ring(stream);
    expect(await consumer.end()).toMatchObject({ code: 'cursor_reset', oldest: 1n });
    expect(consumer.got).toEqual(events('B', 1, 2));
  });

  test('I8: a stream deleted and created again ends its subscribers, the slow one too', async () => {
    const { stream, live, third } = await standing(sluice);
    const ended = live.end();
    await elsewhere.deleteStream(stream.name);
    await elsewhere.createStream(stream.name);
    await write(stream, 7);
    expect(await ended).toMatchObject({ code: 'stream_not_found' });
    expect(await third.end()).toMatchObject({ code: 'stream_not_found' });
    expect([live.got, third.got]).toEqual([events('A', 1, 5), events('A', 1, 3)]);
  });
});
