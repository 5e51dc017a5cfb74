// Guards I9 and I7 for ephemerals: a broadcast reaches whoever is connected, on every process, in the order of its
// sender, without an id and without a trace; a lost notification makes it late, a forged one does nothing; a stalled
// connection keeps a bounded part; only who may publish may broadcast.
import { connect, type Sluice } from 'sluice';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { killListener } from '../support/faults.ts';
import { serve, type Serving } from '../support/serve.ts';
import { openSse, type SseClient } from '../support/sse.ts';
import { upTo } from '../support/up-to.ts';

const db = useDatabase();
let here: Sluice;
let there: Sluice;
let serving: Serving;
let elsewhere: Serving;

beforeAll(async () => {
  // Polls would hide a lost wake-up.
  const options = { connectionString: db.connectionString, fallbackPollMs: 600_000 };
  [here, there] = await Promise.all([connect(options), connect(options)]);
  [serving, elsewhere] = await Promise.all([serve(here), serve(there)]);
});
afterAll(async () => {
  await Promise.all([serving[Symbol.asyncDispose](), elsewhere[Symbol.asyncDispose]()]);
  await Promise.all([here.close(), there.close()]);
});

let made = 0;
const newStream = async (): Promise<string> => {
  const name = `broadcast ${(made += 1)}`;
  await here.createStream(name);
  return name;
};
/** A connection that has opened. */
const open = async (url: string, lastEventId?: string): Promise<SseClient> => {
  const client = await openSse(url, { lastEventId });
  await client.opened();
  return client;
};
const broadcasts = (client: SseClient): unknown[] => client.control('broadcast');
const dataOf = (client: SseClient): unknown[] =>
  broadcasts(client).map((message) => (message as { data: unknown }).data);

test('everybody connected gets it, on both processes, as it was sent, whatever its size', async () => {
  const [name, other] = [await newStream(), await newStream()];
  using a = await open(serving.url(name));
  using b = await open(elsewhere.url(name));
  using several = await open(elsewhere.url(other, `stream=${encodeURIComponent(name)}`));
  using bare = await open(serving.url(name, 'format=data'));
  using bystander = await open(serving.url(other));
  const text = 'line\r\nline\u2028 \u0000 \ud800 ☃ \\ " {} '.repeat(1000);
  await here.stream(name).broadcast({ text }, { type: 'note' });
  await there.stream(name).broadcast(null);
  const all = [a, b, several, bare];
  for (const client of all) await client.until((each) => broadcasts(each).length === 2);
  const expected = [
    { stream: name, type: 'note', data: { text } },
    { stream: name, type: null, data: null },
  ];
  for (const client of all) expect(broadcasts(client)).toEqual(expected);
  await here.stream(other).broadcast('the end');
  await bystander.until((each) => broadcasts(each).length === 1);
  expect(dataOf(bystander)).toEqual(['the end']);
});

test('I9: no id, nothing stored, and a resume neither repeats nor misses an event for it', async () => {
  const name = await newStream();
  const client = await open(serving.url(name));
  const { lastEventId } = client;
  await here.stream(name).broadcast('gone');
  await client.until((each) => broadcasts(each).length === 1);
  expect(client.lastEventId).toBe(lastEventId);
  expect(
    client.frames.filter(({ event }) => event === 'sluice:broadcast').every(({ id }) => id === undefined),
  ).toBe(true);
  await here.stream(name).append('kept');
  await client.received(1);
  client.close();
  using again = await open(serving.url(name), lastEventId);
  await again.received(1);
  await here.stream(name).broadcast('now');
  await again.until((each) => broadcasts(each).length === 1);
  expect(dataOf(again)).toEqual(['now']);
  expect(again.offsets).toEqual([1]);
  expect((await here.stream(name).info())?.head).toBe(1n);
});

test('the messages of one process keep their order, also among streams; those of both come once', async () => {
  const [a, b] = [await newStream(), await newStream()];
  using client = await open(elsewhere.url(a, `stream=${encodeURIComponent(b)}`));
  const sent: Promise<void>[] = [];
  for (let n = 1; n <= 700; n += 1) {
    sent.push(here.stream(n % 3 === 0 ? a : b).broadcast({ from: 'here', n }));
    sent.push(there.stream(n % 2 === 0 ? a : b).broadcast({ from: 'there', n }));
    if (n % 50 === 0) await Promise.all(sent.slice(-2));
  }
  await Promise.all(sent);
  await client.until((each) => broadcasts(each).length >= 1400);
  for (const sender of ['here', 'there']) {
    const numbers = (dataOf(client) as { from: string; n: number }[]).flatMap(({ from, n }) =>
      from === sender ? [n] : [],
    );
    expect(numbers).toEqual(upTo(700));
  }
});

describe('notifications are hints', () => {
  test('I4: forged and repeated ones deliver nothing, nothing twice', async () => {
    const name = await newStream();
    using client = await open(serving.url(name));
    const { rows } = await db.query<{ channel: string }>(
      `select distinct substring(pg_get_functiondef(oid) from 'sluice_ephemerals_[0-9a-f]+') as channel
       from pg_proc where proname = 'broadcast'`,
    );
    const forge = (payload: string): Promise<unknown> =>
      db.query('select pg_notify($1, $2)', [rows[0]?.channel, payload]);
    for (const payload of ['', '1', '{"stream":"x"}', 'x'.repeat(7999)]) await forge(payload);
    await here.stream(name).broadcast('once');
    await forge('again');
    await forge('and again');
    await here.stream(name).broadcast('last');
    await client.until((each) => dataOf(each).includes('last'));
    expect(dataOf(client)).toEqual(['once', 'last']);
  });

  test('I4: with a listener that is cut off, what is broadcast meanwhile comes with its next session', async () => {
    const name = await newStream();
    using client = await open(elsewhere.url(name));
    const lost = nextMessage('sluice:listener.lost');
    await killListener(db);
    await lost;
    await here.stream(name).broadcast('meanwhile');
    await client.until((each) => dataOf(each).length === 1);
    expect(dataOf(client)).toEqual(['meanwhile']);
  });

  test('I4: without any notification the poll delivers', async () => {
    const name = await newStream();
    await using polling = await connect({ connectionString: db.connectionString, fallbackPollMs: 50 });
    await using served = await serve(polling);
    using client = await open(served.url(name));
    await db.query(
      `insert into sluice.ephemerals (slot, stream, data) values (sluice.ephemeral_slot(), $1, '"quietly"')`,
      [name],
    );
    await client.until((each) => dataOf(each).length === 1);
  });
});

test('a transaction that commits after later ones is not missed, and one that rolls back never comes', async () => {
  const name = await newStream();
  using client = await open(serving.url(name));
  await using early = await openClient(db.connectionString);
  await using undone = await openClient(db.connectionString);
  for (const each of [early, undone]) await each.query('begin');
  await early.query('select sluice.broadcast($1, $2)', [name, '"early"']);
  await undone.query('select sluice.broadcast($1, $2)', [name, '"undone"']);
  await here.stream(name).broadcast('late');
  await client.until((each) => dataOf(each).length === 1);
  await undone.query('rollback');
  await early.query('commit');
  await client.until((each) => dataOf(each).length === 2);
  expect(dataOf(client)).toEqual(['late', 'early']);
});

describe('I7: bounds', () => {
  test('a connection that is full keeps the newest, also of those that came at once', async () => {
    const name = await newStream();
    using stalled = await open(serving.url(name));
    stalled.pause();
    const filler = 'x'.repeat(60_000);
    const send = (n: number): Promise<void> => here.stream(name).broadcast({ filler, n });
    const dropped = nextMessage('sluice:sse.dropped');
    const seen = { full: false };
    void dropped.then(() => (seen.full = true));
    let sent = 0;
    while (!seen.full) await send((sent += 1));
    await Promise.all(upTo(10).map(async () => send((sent += 1))));
    stalled.resume();
    await stalled.until(
      (each) => broadcasts(each).length > 0 && (dataOf(each) as { n: number }[]).at(-1)?.n === sent,
    );
    const numbers = (dataOf(stalled) as { n: number }[]).map(({ n }) => n);
    expect(numbers.slice(-4)).toEqual([sent - 3, sent - 2, sent - 1, sent]);
  });

  test('a stalled connection keeps a bounded part of them, loses no event, and delays nobody', async () => {
    const name = await newStream();
    using stalled = await open(serving.url(name));
    using live = await open(serving.url(name));
    stalled.pause();
    const dropped = nextMessage('sluice:sse.dropped');
    const filler = 'x'.repeat(60_000);
    let sent = 0;
    const seen = { full: false };
    void dropped.then(() => (seen.full = true));
    while (!seen.full) {
      await here.stream(name).broadcast({ filler, n: sent });
      sent += 1;
      if (sent % 20 === 0) await here.stream(name).append(sent);
    }
    await here.stream(name).append('the end');
    await live.until(
      (each) => broadcasts(each).length === sent && each.events.at(-1)?.data?.includes('the end') === true,
    );
    stalled.resume();
    await stalled.until((each) => each.events.at(-1)?.data?.includes('the end') === true);
    await here.stream(name).broadcast({ n: sent });
    await stalled.until((each) => (dataOf(each) as { n: number }[]).at(-1)?.n === sent);
    expect(stalled.offsets).toEqual(live.offsets);
    const numbers = (dataOf(stalled) as { n: number }[]).map(({ n }) => n);
    expect(numbers.length).toBeLessThan(sent + 1);
    expect(numbers).toEqual(numbers.toSorted((a, b) => a - b));
  });

  test('what is too large, or no message, is refused alone', async () => {
    const name = await newStream();
    using client = await open(serving.url(name));
    const stream = here.stream(name);
    const deep = `${'['.repeat(30_000)}${']'.repeat(30_000)}`;
    const results = await Promise.allSettled([
      stream.broadcast('x'.repeat(65_534)),
      stream.broadcast('x'.repeat(65_535)),
      stream.broadcast(undefined),
      stream.broadcast(1, { type: 'sluice:presence' }),
      stream.broadcast({ toJSON: () => JSON.parse(deep) as unknown }),
      stream.broadcast('fits'),
    ]);
    const codes = results.map((each) =>
      each.status === 'fulfilled' ? 'sent' : (each.reason as { code?: string }).code,
    );
    expect(codes).toEqual([
      'sent',
      'payload_too_large',
      'payload_invalid',
      'name_invalid',
      'payload_invalid',
      'sent',
    ]);
    await client.until((each) => dataOf(each).includes('fits'));
    expect(broadcasts(client)).toHaveLength(2);
    await expect(
      db.query('select sluice.broadcast($1, $2)', [name, JSON.stringify('x'.repeat(70_000))]),
    ).rejects.toMatchObject({ code: '54000' });
  });

  test('what waits to be sent has a bound, and the next call finds room again', async () => {
    const stream = here.stream(await newStream());
    const filler = 'x'.repeat(60_000);
    const results = await Promise.allSettled(upTo(200).map(async () => stream.broadcast(filler)));
    const refused = results.filter((each) => each.status === 'rejected');
    expect(refused.length).toBeGreaterThan(0);
    expect(refused.every((each) => (each.reason as { code: string }).code === 'overloaded')).toBe(true);
    await stream.broadcast('room again');
  });

  test('an aborted call stops waiting', async () => {
    const stream = here.stream(await newStream());
    await expect(stream.broadcast(1, { signal: AbortSignal.abort('enough') })).rejects.toBe('enough');
  });

  test('rows go: the slot left longest ago is emptied, and the others are not', async () => {
    const slots = async (): Promise<(number | null)[]> => {
      const { rows } = await db.query<{ slot: number; now: number }>(
        'select distinct slot, sluice.ephemeral_slot() as now from sluice.ephemerals order by 1',
      );
      return rows.map(({ slot, now }) => (slot - now + 3) % 3);
    };
    await db.query('truncate sluice.ephemerals');
    // In the middle of a slot, so that the clock does not move on within the test.
    await until(async () => {
      const { rows } = await db.query<{ s: number }>(
        `select (extract(epoch from clock_timestamp()) % 10)::float8 as s`,
      );
      return (rows[0]?.s ?? 9) < 5;
    });
    await db.query(
      `insert into sluice.ephemerals (slot, stream, data) values (0, 'x', '1'), (1, 'x', '1'), (2, 'x', '1')`,
    );
    await using reader = await openClient(db.connectionString);
    await reader.query('begin');
    await reader.query('select from sluice.ephemerals');
    expect((await db.query('select sluice.sweep_ephemerals() as swept')).rows).toEqual([{ swept: false }]); // waits for nobody
    await reader.query('rollback');
    expect((await db.query('select sluice.sweep_ephemerals() as swept')).rows).toEqual([{ swept: true }]);
    expect((await slots()).toSorted((a, b) => Number(a) - Number(b))).toEqual([0, 2]);
    expect((await db.query('select sluice.sweep_ephemerals() as swept')).rows).toEqual([{ swept: false }]);
  });
});

test('a stream that does not exist has nobody connected', async () => {
  await here.stream('never made').broadcast(1);
  expect(await here.stream('never made').info()).toBeNull();
});

test('I4: ephemerals that cannot be read keep no event from a reader whose notification was lost', async () => {
  await using polling = await connect({ connectionString: db.connectionString, fallbackPollMs: 30 });
  await using served = await serve(polling);
  const name = await newStream();
  using client = await open(served.url(name));
  await using holder = await openClient(db.connectionString);
  await holder.query('begin');
  await holder.query('lock table sluice.ephemerals in access exclusive mode');
  await polls(2); // one of them has begun to read them
  await db.query(
    `insert into sluice.events (stream_id, "offset", at, tag, size, data)
     select id, 1, clock_timestamp(), 1, 1, '1' from sluice.streams where name = $1`,
    [name],
  );
  await client.received(1);
  await holder.query('rollback');
});

test('I7: connections open while what is broadcast cannot be read to its end', async () => {
  await using late = await connect({ connectionString: db.connectionString, fallbackPollMs: 600_000 });
  await using served = await serve(late);
  const name = await newStream();
  await using holder = await openClient(db.connectionString);
  await holder.query('begin');
  await holder.query('lock table sluice.ephemerals in access exclusive mode');
  // Each wakes the reading again, which the first one begins.
  const clients = await Promise.all(upTo(6).map(async () => open(served.url(name))));
  await holder.query('rollback');
  await here.stream(name).broadcast('hello');
  for (const client of clients) await client.until((each) => dataOf(each).length === 1);
  for (const client of clients) client.close();
});

/** Resolves when so many polls have looked for readers that are behind. */
async function polls(count: number): Promise<void> {
  for (let poll = 0; poll < count; poll += 1) await nextMessage('sluice:poll.finished');
}
