// Guards one page of a stream as users read it: what follows which position, how much at most, and what is refused.
// Every page is judged against all that was appended, so nothing may be left out between two of them.
import { connect, SluiceError, type Position, type ReadResult, type Sluice, type Stream } from 'sluice';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';

const db = useDatabase();
let sluice: Sluice;

beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString, maxEventBytes: 8 * 2 ** 20 });
});
afterAll(async () => {
  await sluice.close();
});

let names = 0;
/** A stream of its own with the numbers 1 to `count`, each at the offset of its value. */
const streamOf = async (count: number): Promise<Stream<number>> => {
  const { name } = await sluice.createStream(`read ${(names += 1)}`);
  const stream = sluice.stream<number>(name);
  if (count > 0) await stream.appendMany(Array.from({ length: count }, (_, index) => ({ data: index + 1 })));
  return stream;
};
const from = (first: number, last: number): number[] =>
  Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => first + index);
const valuesOf = ({ events }: ReadResult<number>): number[] => {
  for (const { offset, data } of events) expect(offset).toBe(BigInt(data));
  return events.map(({ data }) => data);
};

test('an empty stream has head 0, oldest 1 and a cursor to go on from', async () => {
  const stream = await streamOf(0);
  for (const after of [undefined, 'start', 'end', 0n, '0']) {
    const page = await stream.read({ after });
    expect(page).toMatchObject({ events: [], head: 0n, oldest: 1n, upToDate: true });
    expect((await stream.read({ after: page.cursor })).cursor).toBe(page.cursor);
  }
  const { cursor } = await stream.read();
  await stream.append(1);
  expect(valuesOf(await stream.read({ after: cursor }))).toEqual([1]);
});

test('I2: a page holds what is strictly after any form of position', async () => {
  const stream = await streamOf(7);
  const third = (await stream.read()).events[2]!;
  const after = async (position?: Position): Promise<number[]> =>
    valuesOf(await stream.read({ after: position }));
  expect(await after()).toEqual(from(1, 7));
  expect(await after('start')).toEqual(from(1, 7));
  expect(await after(0n)).toEqual(from(1, 7));
  expect(await after('0')).toEqual(from(1, 7));
  expect(await after(3n)).toEqual(from(4, 7));
  expect(await after('3')).toEqual(from(4, 7));
  expect(await after(third.cursor)).toEqual(from(4, 7));
  expect(await after(6n)).toEqual([7]);
  expect(await after(7n)).toEqual([]);
  expect(await after('end')).toEqual([]);
});

test('a page says where it ends and whether that is the head', async () => {
  const stream = await streamOf(5);
  const events = (await stream.read()).events;
  const page = await stream.read({ after: 1n, limit: 2 });
  expect(page).toMatchObject({ cursor: events[2]!.cursor, head: 5n, oldest: 1n, upToDate: false });
  const rest = await stream.read({ after: page.cursor, limit: 2 });
  expect(rest).toMatchObject({ cursor: events[4]!.cursor, head: 5n, upToDate: true });
  expect(valuesOf(rest)).toEqual([4, 5]);
  expect(await stream.read({ after: 'end' })).toMatchObject({ cursor: events[4]!.cursor, upToDate: true });
  // What append and read call the place after an event is one and the same.
  const appended = await stream.append(6);
  expect((await stream.read({ after: 'end' })).cursor).toBe(appended.cursor);
});

test('a limit is a whole number from 1 to 1 000, which is the default', async () => {
  const stream = await streamOf(1001);
  expect(valuesOf(await stream.read())).toEqual(from(1, 1000));
  expect(valuesOf(await stream.read({ limit: 1000 }))).toEqual(from(1, 1000));
  expect(valuesOf(await stream.read({ after: 1n }))).toEqual(from(2, 1001));
  expect(valuesOf(await stream.read({ limit: 1 }))).toEqual([1]);
  for (const limit of [0, -1, 1001, 1.5, Number.NaN, Infinity]) {
    await expect(stream.read({ limit })).rejects.toThrow(RangeError);
  }
});

test('I2: pages chained by their cursors hold every event exactly once', async () => {
  const stream = await streamOf(97);
  for (const limit of [1, 7, 96, 97, 98]) {
    const seen: number[] = [];
    for (let after = 'start'; ;) {
      const page = await stream.read({ after, limit });
      expect(page.events.length).toBeLessThanOrEqual(limit);
      seen.push(...valuesOf(page));
      expect(page.upToDate).toBe(seen.length === 97);
      after = page.cursor;
      if (page.upToDate) break;
    }
    expect(seen).toEqual(from(1, 97));
  }
});

test('I7: keys and headers count as data does, towards a page and towards the limit of an event', async () => {
  const stream = sluice.stream<number>(`read ${(names += 1)}`);
  const long = 'x'.repeat(2 * 2 ** 20);
  await stream.appendMany([
    { data: 1, key: long },
    { data: 2, headers: { long } },
    { data: 3, key: long },
  ]);
  const { events, upToDate } = await stream.read();
  expect([events.length, upToDate]).toEqual([2, false]);
  await expect(stream.append(4, { key: 'x'.repeat(8 * 2 ** 20 + 1) })).rejects.toMatchObject({
    code: 'payload_too_large',
  });
});

test('I7: a page ends after 4 MiB, holds at least one event, and reading goes on after it', async () => {
  const stream = sluice.stream<string>('large');
  const lengths = [1, 1, 1, 1, 1, 1, 5, 1, 1].map((megabytes) => megabytes * 2 ** 20 - 2); // two quotes each
  for (const [index, length] of lengths.entries()) await stream.append(String(index).repeat(length));
  const pages: number[] = [];
  const seen: [string, number][] = [];
  for (let after = 'start'; ;) {
    const page = await stream.read({ after });
    pages.push(page.events.length);
    seen.push(...page.events.map(({ data }): [string, number] => [data[0]!, data.length]));
    if (page.upToDate) break;
    after = page.cursor;
  }
  expect(seen).toEqual(lengths.map((length, index) => [String(index), length]));
  expect(pages).toEqual([4, 3, 2]);
  expect((await stream.read({ after: 6n, limit: 1 })).events).toHaveLength(1);
});

test('an event comes back with all it was given, and is the wire envelope as JSON', async () => {
  const stream = sluice.stream('round trip');
  const data = { text: 'žluťoučký \u0000 \u2028 "', list: [1, null, -0.5e-7, [true]], '': {} };
  const headers = { trace: 'a-b', 'x\ny': 'é\u0001' };
  const { cursor } = await stream.append(data, { type: 'order.paid', key: 'kůň 7', headers });
  await stream.append(null);
  const [full, bare] = (await stream.read()).events as [object, object];
  expect(full).toMatchObject({ stream: 'round trip', offset: 1n, cursor, type: 'order.paid', key: 'kůň 7' });
  expect(full).toMatchObject({ data, headers, at: expect.any(Date) });
  expect(bare).toMatchObject({ offset: 2n, type: null, key: null, data: null, headers: {} });
  const { at } = full as { at: Date };
  expect(at.getTime()).toBeLessThanOrEqual((bare as { at: Date }).at.getTime());
  const envelope = { stream: 'round trip', offset: '1', type: 'order.paid', key: 'kůň 7', data, at };
  expect(JSON.stringify(full)).toBe(JSON.stringify(envelope));
  // A copy is its own: what is changed in it is never hidden by the event it was made from.
  expect(structuredClone(full)).toEqual(full);
  expect({ ...full }).not.toHaveProperty('toJSON');
  const { rows } = await db.query<{ at: Date }>(
    `select date_trunc('milliseconds', e.at) as at from sluice.events e
     join sluice.streams s on s.id = e.stream_id where s.name = 'round trip' and e."offset" = 1`,
  );
  expect(at).toEqual(rows[0]?.at);
});

describe('what is refused', () => {
  test('a stream that does not exist', async () => {
    for (const after of ['start', 'end', 3n, '1-1-1']) {
      await expect(sluice.stream('unknown').read({ after })).rejects.toMatchObject({
        code: 'stream_not_found',
      });
    }
  });

  // Not a position, each of these words.
  const words =
    '-1 +1 01 1.5 1e3 0x1 ٣ 9223372036854775808 Start END now latest null ../.. 1-1 1-1- -1-1 1--1 0-1-1 1-01-1 ' +
    '1-1-01 A-1-1 1-1-1-1 1_1_1 1-1-1. .1-1-1 1-1-1..1-1-1 1-1-1,1-1-1 1-1-zzzzzzz 1-zzzzzzzzzzzzz-1 zzzzzzzzzzzzz-1-1';
  const texts = [
    '',
    ' ',
    ' 1',
    '1\n',
    'start ',
    '1-1-1 ',
    '\u0000',
    "1'; drop table events",
    'z'.repeat(1e5),
  ];
  const tooMany = `${'1-1-1.'.repeat(20)}1-1-1`;
  const values = [-1n, 2n ** 63n, 0, 1, Number.NaN, null, true, {}, ['start'], new Date(0)];
  const notPositions: readonly unknown[] = [...words.split(' '), ...texts, tooMany, ...values];
  test('I8: whatever is not a position is invalid, never clamped or guessed', async () => {
    const stream = await streamOf(2);
    for (const after of notPositions as Position[]) {
      const refused = expect.objectContaining({ code: 'cursor_invalid' });
      await expect(stream.read({ after }), String(after).slice(0, 40)).rejects.toEqual(refused);
      expect(() => stream.subscribe({ after })).toThrow(SluiceError);
    }
  });

  test('I8: a position far past the head is another history, up to the largest there can be', async () => {
    const stream = await streamOf(2);
    const incarnation = (await stream.read()).cursor.split('-')[0]!;
    for (const after of [3n, 2n ** 63n - 1n, String(2n ** 63n - 1n), `${incarnation}-1y2p0ij32e8e7-1`]) {
      await expect(stream.read({ after })).rejects.toMatchObject({ code: 'cursor_reset', oldest: 1n });
    }
  });

  test('a cursor of several streams is read where it names this one, else it is invalid', async () => {
    const [one, other, third] = [await streamOf(3), await streamOf(3), await streamOf(3)];
    const cursorIn = async (stream: Stream<number>): Promise<string> =>
      (await stream.read({ limit: 2 })).cursor;
    const after = `${await cursorIn(one)}.${await cursorIn(other)}`;
    expect(valuesOf(await one.read({ after }))).toEqual([3]);
    expect(valuesOf(await other.read({ after }))).toEqual([3]);
    await expect(third.read({ after })).rejects.toMatchObject({ code: 'cursor_invalid' });
  });
});

test('an aborted signal rejects with its reason, before the read and during it', async () => {
  const stream = await streamOf(1);
  const reason = new Error('enough');
  await expect(stream.read({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  // Nobody waits for this read any more; that it fails must not end the process.
  await expect(sluice.stream('unknown').read({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  await using holder = await openClient(db.connectionString);
  await holder.query('begin; lock table sluice.events');
  const aborting = new AbortController();
  const reading = stream.read({ signal: aborting.signal }).catch((error: unknown) => error);
  await until(async () => {
    const { rowCount } = await db.query(
      `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
         and query like '%.events%'`,
    );
    return (rowCount ?? 0) >= 1;
  });
  aborting.abort(reason);
  expect(await reading).toBe(reason);
  await holder.query('rollback');
  expect(valuesOf(await stream.read({ signal: new AbortController().signal }))).toEqual([1]);
});
