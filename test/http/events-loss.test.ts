// Guards I8 on the wire: history that is gone, or is another one, is said in a control frame and never skipped in
// silence, on resume and on connections that are live, busy or not being read.
import { connect, type Sluice } from 'sluice';
import { createHandler } from 'sluice/http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { anyone, serve, type Serving } from '../support/serve.ts';
import { FrameReader, openSse, type Frame, type SseClient } from '../support/sse.ts';

const db = useDatabase();
let sluice: Sluice;
let serving: Serving;

beforeAll(async () => {
  const often = { fallbackPollMs: 30, retentionIntervalMs: 30 };
  sluice = await connect({ connectionString: db.connectionString, ...often });
  serving = await serve(sluice);
});
afterAll(async () => {
  await serving[Symbol.asyncDispose]();
  await sluice.close();
});

let names = 0;
/** A stream of its own with events 1 to `count`. */
const streamOf = async (count: number): Promise<string> => {
  const name = `loss ${(names += 1)}`;
  await sluice.createStream(name);
  await write(name, count);
  return name;
};
const write = async (name: string, count: number): Promise<void> => {
  const data = Array.from({ length: count }, (_, index) => ({ data: index }));
  if (count > 0) await sluice.stream(name).appendMany(data);
};
const cursorAt = async (name: string, offset: bigint): Promise<string> =>
  (await sluice.stream(name).read({ after: offset, limit: 1 })).cursor;

/** Up to and with `offset`, everything is gone; its rows are still there, or not, as the background has it. */
const trim = async (name: string, offset: number): Promise<void> => {
  await sluice.stream(name).trim({ before: BigInt(offset) + 1n });
};
/** What a lossy failover does: events after `keep` are taken back, and `count` others stand there. One transaction. */
const rewrite = async (name: string, keep: number, count: number): Promise<void> => {
  await db.query(
    `with s as (select id from sluice.streams where name = $1),
     gone as (delete from sluice.events using s where stream_id = s.id and "offset" > $2::integer + $3::integer)
     insert into sluice.events (stream_id, "offset", at, tag, size, data)
     select s.id, $2::integer + n, clock_timestamp(), (random() * 1e9)::integer, 3, '"B"'
     from s, generate_series(1, $3::integer) n
     on conflict (stream_id, "offset") do update set tag = excluded.tag, data = excluded.data`,
    [name, keep, count],
  );
};

/** A body that is read no further than is asked. */
const readFromStart = async (
  name: string,
): Promise<AsyncDisposable & { frames: readonly Frame[]; readUntil(done: () => boolean): Promise<void> }> => {
  const handler = createHandler(sluice, { authorize: anyone });
  const { body } = await handler(new Request(serving.url(name, 'after=start')));
  const reader = body!.getReader();
  const got = new FrameReader();
  return {
    frames: got.frames,
    readUntil: async (done) => {
      while (!done()) got.feed((await reader.read()).value ?? new Uint8Array());
    },
    [Symbol.asyncDispose]: async () => {
      await reader.cancel();
      await handler.close();
    },
  };
};

/** What follows the retry frame, without noise. */
const story = (frames: readonly Frame[]): unknown[] =>
  frames
    .filter(({ retry, comment }) => retry === undefined && comment === undefined)
    .map(({ event, id, data }) => event ?? (data === undefined ? { id } : Number(offsetOf(data))));
const offsetOf = (data: string): string => (JSON.parse(data) as { offset: string }).offset;

const expectNoId = ({ frames }: SseClient): void => {
  const control = frames.filter(({ event }) => event?.startsWith('sluice:'));
  expect(control.length).toBeGreaterThan(0);
  expect(control.filter(({ id }) => id !== undefined)).toEqual([]);
};

describe('I8, I9: on resume', () => {
  test('trimmed: sluice:gap, then the id it goes on from, then the oldest', async () => {
    const name = await streamOf(6);
    const lastEventId = await cursorAt(name, 1n);
    await trim(name, 4);
    using client = await openSse(serving.url(name), { lastEventId });
    await client.received(2);
    const resumedAt = (await sluice.stream(name).read({ after: 'start', limit: 1 })).cursor;
    const [gap] = client.control('gap') as [{ resumedAt: string }];
    expect(gap).toEqual({
      stream: name,
      reason: 'trimmed',
      requested: '2',
      oldest: '5',
      head: '6',
      resumedAt: expect.any(String),
    });
    expect(story(client.frames)).toEqual(['sluice:open', 'sluice:gap', { id: gap.resumedAt }, 5, 6]);
    expect(client.control('open')).toMatchObject([{ streams: [{ name, head: '6', oldest: '5' }] }]);
    expectNoId(client);
    expect(resumedAt).toBe(client.events[0]?.id);
    // A connection lost right after the notice resumes there, without another notice.
    using again = await openSse(serving.url(name), { lastEventId: gap.resumedAt });
    await again.received(2);
    expect(story(again.frames)).toEqual(['sluice:open', { id: gap.resumedAt }, 5, 6]);
  });

  test('trimmed to the head: the notice, and the next event when it comes', async () => {
    const name = await streamOf(3);
    const lastEventId = await cursorAt(name, 0n);
    await trim(name, 3);
    using client = await openSse(serving.url(name), { lastEventId });
    await client.until(({ frames }) => frames.length >= 4);
    expect(client.control('gap')).toMatchObject([{ requested: '1', oldest: '4', head: '3' }]);
    await write(name, 1);
    await client.received(1);
    expect(client.offsets).toEqual([4]);
  });

  test('the start of a trimmed stream is no gap', async () => {
    const name = await streamOf(4);
    await trim(name, 2);
    using client = await openSse(serving.url(name, 'after=start'));
    await client.received(2);
    expect(story(client.frames)).toEqual(['sluice:open', { id: expect.any(String) }, 3, 4]);
  });

  test('a cursor that stands on the last trimmed event lost nothing', async () => {
    const name = await streamOf(4);
    const lastEventId = await cursorAt(name, 1n);
    await trim(name, 2);
    using client = await openSse(serving.url(name), { lastEventId });
    await client.received(2);
    expect(story(client.frames)).toEqual(['sluice:open', { id: lastEventId }, 3, 4]);
  });

  const reset = async (
    name: string,
    after: { lastEventId: string } | string,
    loss: object,
    offsets: readonly number[],
  ): Promise<void> => {
    using client =
      typeof after === 'string'
        ? await openSse(serving.url(name, `after=${after}`))
        : await openSse(serving.url(name), after);
    await client.received(offsets.length);
    const [told] = client.control('reset') as [{ resumedAt: string }];
    expect(told).toEqual({ stream: name, resumedAt: expect.any(String), ...loss });
    expect(story(client.frames)).toEqual(['sluice:open', 'sluice:reset', { id: told.resumedAt }, ...offsets]);
    expectNoId(client);
  };

  test('recreated', async () => {
    const name = await streamOf(5);
    const lastEventId = await cursorAt(name, 1n);
    await sluice.deleteStream(name);
    await sluice.createStream(name);
    await write(name, 2);
    await reset(
      name,
      { lastEventId },
      { reason: 'recreated', requested: '2', oldest: '1', head: '2' },
      [1, 2],
    );
  });

  test('a future offset, and a future cursor', async () => {
    const name = await streamOf(2);
    const future = { reason: 'future', requested: '99', oldest: '1', head: '2' };
    await reset(name, '99', future, [1, 2]);
    const cursor = await cursorAt(name, 0n);
    const forged = cursor.replace(/-[0-9a-z]+-/, `-${(99).toString(36)}-`);
    await reset(name, { lastEventId: forged }, future, [1, 2]);
  });

  test('a forged tag, and another history at the same offset', async () => {
    const name = await streamOf(3);
    const real = await cursorAt(name, 1n);
    const history = { reason: 'history', requested: '2', oldest: '1', head: '3' };
    const forged = real.replace(/[0-9a-z]+$/, (tag) => (tag === '1' ? '2' : '1'));
    await reset(name, { lastEventId: forged }, history, [1, 2, 3]);
    await rewrite(name, 1, 2);
    await reset(name, { lastEventId: real }, history, [1, 2, 3]);
  });
});

describe('I8: on live connections', () => {
  /** A connection that has had everything, and stands at the head. */
  const live = async (name: string, count: number): Promise<SseClient> => {
    const client = await openSse(serving.url(name, 'after=start'));
    await client.received(count);
    return client;
  };

  test.each([
    ['shorter than what was seen', 3, 1],
    ['exactly as long', 3, 2],
    ['longer', 3, 7],
    ['from the first event on', 0, 5],
    ['none left', 0, 0],
  ])('another history, %s, found by the poll', async (_, keep, count) => {
    const name = await streamOf(5);
    using client = await live(name, 5);
    await rewrite(name, keep, count);
    await client.until((c) => c.control('reset').length > 0);
    await client.received(5 + keep + count);
    const head = keep + count;
    const told = { stream: name, requested: '5', oldest: '1', head: String(head) };
    expect(client.control('reset')).toMatchObject([told]);
    const again = Array.from({ length: head }, (_, index) => index + 1);
    expect(client.offsets).toEqual([1, 2, 3, 4, 5, ...again]);
    expectNoId(client);
    await write(name, 1);
    await client.received(6 + head);
    expect(client.offsets.at(-1)).toBe(head + 1);
    expect(client.control('reset')).toHaveLength(1);
  });

  test('another history, announced by a hint', async () => {
    const quiet = await connect({ connectionString: db.connectionString, fallbackPollMs: 3_600_000 });
    await using other = await serve(quiet);
    const name = await streamOf(4);
    using client = await openSse(other.url(name, 'after=start'));
    await client.received(4);
    await rewrite(name, 2, 0);
    await db.query('select sluice.append($1, $2), sluice.append($1, $2), sluice.append($1, $2)', [
      name,
      '"B"',
    ]);
    await client.received(9);
    expect(client.control('reset')).toMatchObject([{ reason: 'history', requested: '4', head: '5' }]);
    expect(client.offsets).toEqual([1, 2, 3, 4, 1, 2, 3, 4, 5]);
    await quiet.close();
  });

  test('several connections at different places each find out for themselves', async () => {
    const name = await streamOf(6);
    const starts = ['start', '2', '5', 'end'];
    const clients = await Promise.all(starts.map((after) => openSse(serving.url(name, `after=${after}`))));
    await Promise.all(clients.map((client, index) => client.received([6, 4, 1, 0][index] ?? 0)));
    await rewrite(name, 3, 4);
    await Promise.all(clients.map((client) => client.until((c) => c.offsets.at(-1) === 7)));
    for (const client of clients) {
      expect(client.control('reset')).toMatchObject([{ requested: '6' }]);
      expect(client.offsets.slice(-7)).toEqual([1, 2, 3, 4, 5, 6, 7]);
      client.close();
    }
  });

  test('trimmed while nobody was behind: nothing is said', async () => {
    const name = await streamOf(4);
    using client = await live(name, 4);
    await trim(name, 4);
    await write(name, 1);
    await client.received(5);
    expect(client.offsets).toEqual([1, 2, 3, 4, 5]);
    expect(client.control('gap')).toEqual([]);
  });

  test('trimmed in the middle of a catch-up: what was on its way arrives, then the notice, then the rest', async () => {
    const name = await streamOf(4000);
    await using body = await readFromStart(name);
    const { frames } = body;
    await body.readUntil(() => story(frames).includes(1));
    await trim(name, 3500);
    await body.readUntil(() => story(frames).at(-1) === 4000);
    const told = story(frames).slice(2);
    const at = told.indexOf('sluice:gap');
    expect(at).toBeGreaterThan(0);
    const from = (first: number, last: number): number[] =>
      Array.from({ length: last - first + 1 }, (_, index) => first + index);
    expect(told).toEqual([...from(1, at), 'sluice:gap', { id: expect.any(String) }, ...from(3501, 4000)]);
    const notice = frames.find(({ event }) => event === 'sluice:gap');
    expect(JSON.parse(notice!.data!)).toMatchObject({
      reason: 'trimmed',
      requested: String(at),
      oldest: '3501',
      head: '4000',
    });
  });

  test('kept within bounds while it is written: a connection that keeps up is told nothing', async () => {
    const name = `loss ${(names += 1)}`;
    await sluice.createStream(name, { maxCount: 3 });
    using client = await live(name, 0);
    for (let n = 1; n <= 30; n += 1) {
      await write(name, 5);
      await client.received(5 * n);
    }
    await until(async () => ((await sluice.stream(name).info())?.oldest ?? 0n) === 148n);
    expect(client.offsets).toEqual(Array.from({ length: 150 }, (_, index) => index + 1));
    expect(client.control('gap')).toEqual([]);
    using late = await openSse(serving.url(name, 'after=100'));
    await late.received(3);
    expect(late.control('gap')).toMatchObject([{ requested: '100', oldest: '148', head: '150' }]);
    expect(late.offsets).toEqual([148, 149, 150]);
  });

  test.each([
    ['shorter', 2, 1],
    ['exactly as long', 2, 2],
    ['longer', 2, 6],
  ])(
    'a body that is not being read while the history becomes %s is told when it is',
    async (_, keep, count) => {
      const name = await streamOf(4);
      await using body = await readFromStart(name);
      const { frames } = body;
      await body.readUntil(() => story(frames).includes(4));
      const found = nextMessage<{ behind: number }>('sluice:poll.finished', ({ behind }) => behind > 0);
      await rewrite(name, keep, count);
      await found;
      const again = nextMessage<{ behind: number }>('sluice:poll.finished', ({ behind }) => behind === 0);
      await again;
      await write(name, 1);
      const head = keep + count + 1;
      await body.readUntil(() => story(frames).at(-1) === head && frames.length > 8);
      const offsets = Array.from({ length: head }, (_, index) => index + 1);
      expect(story(frames).slice(2)).toEqual([
        1,
        2,
        3,
        4,
        'sluice:reset',
        { id: expect.any(String) },
        ...offsets,
      ]);
    },
  );

  test('deleted: the connection ends', async () => {
    const name = await streamOf(2);
    using client = await live(name, 2);
    const closed = nextMessage<{ reason: string }>('sluice:sse.closed');
    await sluice.deleteStream(name);
    await client.ended();
    expect(client.over).toBe('end');
    expect((await closed).reason).toBe('stream');
  });
});
