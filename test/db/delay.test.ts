// Guards delivery at a later time: never before it, in the order of due times, once, by a timer and not by polling, and
// at no cost to whoever publishes for now. The tests move due times in the table instead of waiting for them, where it
// is not the timer itself that is looked at.
import { connect, SluiceError, type Sluice } from 'sluice';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { logOf, pass, passAll, pendingIn } from '../support/log-sql.ts';

const db = useDatabase();
let sluice: Sluice;
beforeAll(async () => {
  // Nobody moves anything but passAll, so that a test decides when.
  sluice = await connect({ connectionString: db.connectionString, relay: false, fallbackPollMs: 600_000 });
});
afterAll(() => sluice.close());

const HOUR = 3_600_000;

/** Lets the hour pass for what is delayed to a stream. */
const letTimePass = (stream: string, ms = HOUR) =>
  db.query(`update sluice.delayed set due_at = due_at - $2 * interval '1 ms' where stream = $1`, [
    stream,
    ms,
  ]);
const waiting = async (stream: string): Promise<number> =>
  Number(
    (await db.query('select count(*) from sluice.delayed where stream = $1', [stream])).rows[0]?.['count'],
  );

describe('a delayed event', () => {
  test('appears when it is due and not before, once, with its type, key and headers', async () => {
    const stream = sluice.stream('later');
    const { id } = await stream.publish(1, { delayMs: HOUR, type: 't', key: 'k', headers: { a: 'b' } });
    expect(id).toMatch(/^\d+$/);
    await stream.publish(2);
    await passAll(db);
    expect(await logOf(db, 'later')).toEqual(['2']);
    expect(await waiting('later')).toBe(1);
    await letTimePass('later');
    await passAll(db);
    await passAll(db);
    const { events } = await stream.read();
    expect(events.map(({ data, type, key, headers }) => ({ data, type, key, headers }))).toEqual([
      { data: 2, type: null, key: null, headers: {} },
      { data: 1, type: 't', key: 'k', headers: { a: 'b' } },
    ]);
    expect(await waiting('later')).toBe(0);
  });

  test('I3: shares the fate of its transaction', async () => {
    const stream = sluice.stream('later fate');
    await using client = await openClient(db.connectionString);
    await client.query('begin');
    await stream.publish('rolled back', { tx: client, delayMs: HOUR });
    await client.query('rollback');
    await client.query('begin isolation level repeatable read');
    await stream.publish('kept', { tx: client, delayMs: HOUR });
    await client.query('savepoint s');
    await stream.publish('undone', { tx: client, delayMs: HOUR });
    await client.query('rollback to savepoint s');
    await client.query('commit');
    await letTimePass('later fate');
    await passAll(db);
    expect(await logOf(db, 'later fate')).toEqual(['"kept"']);
  });

  test('that is due already goes the straight way: nothing ever waits', async () => {
    const stream = sluice.stream('past');
    await stream.publish(1, { deliverAt: new Date(0) });
    await stream.publish(2, { deliverAt: new Date(-8.64e15) });
    await stream.publish(3, { delayMs: 0 });
    await stream.publish(4, { deliverAt: new Date(Date.now() - HOUR) });
    expect(await waiting('past')).toBe(0);
    await passAll(db);
    expect(await logOf(db, 'past')).toEqual(['1', '2', '3', '4']);
  });

  test('I1: counts as published at its due time: order is that of due times, then of publishing', async () => {
    const stream = sluice.stream('order');
    await stream.publish('third', { delayMs: HOUR - 1000 });
    await stream.publish('first', { delayMs: HOUR - 3000 });
    await stream.publish('second', { delayMs: HOUR - 2000 });
    await stream.publish('before them all');
    await letTimePass('order');
    await passAll(db);
    expect(await logOf(db, 'order')).toEqual(['"before them all"', '"first"', '"second"', '"third"']);
  });

  test('I1: what transactions delay to one and the same time stands together, each in its own order', async () => {
    const stream = sluice.stream('midnight');
    const deliverAt = new Date(Date.now() + HOUR);
    await using a = await openClient(db.connectionString);
    await using b = await openClient(db.connectionString);
    await a.query('begin');
    await b.query('begin');
    await stream.publish('a1', { tx: a, deliverAt });
    await stream.publish('b1', { tx: b, deliverAt });
    await stream.publishMany([{ data: 'a2' }, { data: 'a3' }], { tx: a, deliverAt });
    await stream.publish('b2', { tx: b, deliverAt });
    await stream.publish('a4', { tx: a, deliverAt });
    await b.query('commit');
    await a.query('commit');
    await letTimePass('midnight', 2 * HOUR);
    await db.query(`select sluice.move_due('-infinity', 1)`); // cuts inside the first transaction
    await passAll(db);
    expect(await logOf(db, 'midnight')).toEqual(
      ['a1', 'a2', 'a3', 'a4', 'b1', 'b2'].map((text) => `"${text}"`),
    );
  });

  test('I3: transactions that are serializable delay side by side, and neither fails', async () => {
    await using a = await openClient(db.connectionString);
    await using b = await openClient(db.connectionString);
    const delay = (tx: typeof a, data: string) =>
      sluice.stream('serializable').publish(data, { tx, delayMs: HOUR });
    for (const client of [a, b]) await client.query('begin isolation level serializable');
    await delay(a, 'a1');
    await delay(b, 'b1');
    await delay(a, 'a2');
    await delay(b, 'b2');
    await a.query('commit');
    await b.query('commit');
    expect(await waiting('serializable')).toBe(4);
  });

  test('I1: what is delayed after a return to a savepoint still stands together', async () => {
    const stream = sluice.stream('savepoint');
    const deliverAt = new Date(Date.now() + HOUR);
    await using a = await openClient(db.connectionString);
    await a.query('begin');
    await a.query('savepoint here');
    await stream.publish('undone', { tx: a, deliverAt });
    await a.query('rollback to here');
    await stream.publish('b1', { deliverAt });
    await stream.publish('a1', { tx: a, deliverAt });
    await stream.publish('b2', { deliverAt });
    await stream.publish('a2', { tx: a, deliverAt });
    await a.query('commit');
    await letTimePass('savepoint', 2 * HOUR);
    await passAll(db);
    expect(await logOf(db, 'savepoint')).toEqual(['b1', 'a1', 'a2', 'b2'].map((text) => `"${text}"`));
  });

  test('is found when its transaction stayed open past its time, also where earlier ones were moved since', async () => {
    const stream = sluice.stream('late commit');
    await using client = await openClient(db.connectionString);
    await client.query('begin');
    await stream.publish('late', { tx: client, delayMs: HOUR });
    await stream.publish('in time', { delayMs: HOUR + 1000 });
    await db.query(
      `update sluice.delayed set due_at = due_at - interval '2 hours' where stream = 'late commit'`,
    );
    await passAll(db);
    expect(await logOf(db, 'late commit')).toEqual(['"in time"']);
    await client.query(
      `update sluice.delayed set due_at = due_at - interval '2 hours' where stream = 'late commit'`,
    );
    await client.query('commit');
    await passAll(db);
    expect(await logOf(db, 'late commit')).toEqual(['"in time"', '"late"']);
  });
});

describe('movers', () => {
  test('side by side do not overtake each other: the second leaves the rest to the first', async () => {
    const stream = sluice.stream('movers');
    for (let n = 0; n < 6; n += 1) await stream.publish(n, { delayMs: HOUR + n * 1000 });
    await letTimePass('movers', 2 * HOUR);
    await using first = await openClient(db.connectionString);
    await first.query('begin');
    await first.query(`select sluice.move_due('-infinity', 3)`);
    const second = await pass(db);
    expect(second).toMatchObject({ moved: 0, more: true });
    await first.query('commit');
    await passAll(db);
    expect(await logOf(db, 'movers')).toEqual(['0', '1', '2', '3', '4', '5']);
  });

  test('one that dies has moved nothing', async () => {
    const stream = sluice.stream('dying mover');
    await stream.publishMany([{ data: 1 }, { data: 2 }], { delayMs: HOUR });
    await letTimePass('dying mover');
    const mover = await openClient(db.connectionString);
    await mover.query('begin');
    await mover.query(`select sluice.move_due('-infinity')`);
    await mover.end();
    await passAll(db);
    expect(await logOf(db, 'dying mover')).toEqual(['1', '2']);
  });

  test('I7: ten thousand due at once are moved in bounded steps, none lost, in order', async () => {
    const stream = sluice.stream('rush');
    for (let n = 0; n < 4; n += 1) {
      await stream.publishMany(
        Array.from({ length: 3000 }, (_, i) => ({ data: n * 3000 + i })),
        { delayMs: HOUR },
      );
    }
    await letTimePass('rush');
    const before = await pass(db);
    expect(before.more).toBe(true);
    expect(before.moved).toBeLessThanOrEqual(8000);
    await passAll(db);
    expect(await logOf(db, 'rush')).toEqual(Array.from({ length: 12_000 }, (_, n) => String(n)));
  });
});

describe('the due timer', () => {
  test('wakes the sleeping relay in time, without polling', async () => {
    await using relaying = await connect({ connectionString: db.connectionString, fallbackPollMs: 600_000 });
    await nextMessage('sluice:relay.asleep');
    const stream = relaying.stream('timer');
    await relaying.createStream('timer');
    const asleep = nextMessage<{ dueInMs: number | null }>(
      'sluice:relay.asleep',
      ({ dueInMs }) => dueInMs !== null,
    );
    const published = performance.now();
    await stream.publish('soon', { delayMs: 2000 });
    expect((await asleep).dueInMs).toBeLessThanOrEqual(2000);
    for await (const event of stream.subscribe()) {
      expect(event.data).toBe('soon');
      break;
    }
    expect(performance.now() - published).toBeGreaterThanOrEqual(1999);
  });

  test('an earlier event moves the timer forward', async () => {
    await using relaying = await connect({ connectionString: db.connectionString, fallbackPollMs: 600_000 });
    const stream = relaying.stream('forward');
    await relaying.createStream('forward');
    const asleep = nextMessage<{ dueInMs: number | null }>(
      'sluice:relay.asleep',
      ({ dueInMs }) => dueInMs !== null,
    );
    await stream.publish('tomorrow', { delayMs: 24 * HOUR });
    await asleep;
    await stream.publish('soon', { delayMs: 100 });
    for await (const event of stream.subscribe()) {
      expect(event.data).toBe('soon');
      break;
    }
    expect(await waiting('forward')).toBe(1);
  });

  test('what came due long before its transaction committed is found too, behind the place from which looks start', async () => {
    await using relaying = await connect({ connectionString: db.connectionString, fallbackPollMs: 50 });
    await relaying.createStream('overdue');
    const stream = relaying.stream('overdue');
    // A look starts at the beginning; the next ones start ten seconds ago at most.
    await stream.publish('first', { delayMs: 1 });
    await until(async () => (await stream.info())?.head === 1n);
    await db.query(
      `insert into sluice.delayed (due_at, first_id, id, stream, data)
       values (clock_timestamp() - interval '1 hour', 1, 1, 'overdue', '"overdue"')`,
    );
    await until(async () => (await stream.info())?.head === 2n);
    expect(await logOf(db, 'overdue')).toEqual(['"first"', '"overdue"']);
  });

  test('I4: where nobody has the role, the fallback poll finds what is due', async () => {
    const stream = sluice.stream('nobody');
    await stream.publish('due', { delayMs: 1 });
    await using other = await connect({
      connectionString: db.connectionString,
      relay: false,
      fallbackPollMs: 20,
    });
    await until(async () => (await other.stream('nobody').info())?.head === 1n);
  });
});

test('a crowd of waiting events costs a publish and a pass nothing', async () => {
  const pages = async (statement: string): Promise<number> => {
    const { rows } = await db.query(`explain (analyze, buffers, format json) ${statement}`);
    const plan = rows[0]?.['QUERY PLAN'][0].Plan;
    return Number(plan['Shared Hit Blocks']) + Number(plan['Shared Read Blocks']);
  };
  const cost = async (): Promise<number> => {
    await pages(`select sluice.publish('free', '1')`); // what a session looks up once
    await pages('select sluice.pass()');
    return (await pages(`select sluice.publish('free', '1')`)) + (await pages('select sluice.pass()'));
  };
  const alone = await cost();
  // Statistics of a moment when nothing waited, as autovacuum leaves them: plans made by them must not read all.
  await db.query(
    `insert into sluice.delayed (due_at, first_id, id, stream, data)
     select clock_timestamp() + interval '1 day', n, n, 'crowd', '1' from generate_series(1, 1000) n`,
  );
  await db.query(`delete from sluice.delayed where stream = 'crowd'`);
  await db.query('analyze sluice.delayed');
  await db.query(
    `insert into sluice.delayed (due_at, first_id, id, stream, data)
     select clock_timestamp() + interval '1 day', n, n, 'crowd', '1' from generate_series(1, 100000) n`,
  );
  await using fresh = await openClient(db.connectionString);
  const { rows } = await fresh.query('explain (analyze, buffers, format json) select sluice.pass()');
  const plan = (rows[0] as Record<string, [{ Plan: Record<string, number> }]>)['QUERY PLAN']?.[0].Plan;
  expect((plan?.['Shared Hit Blocks'] ?? 0) + (plan?.['Shared Read Blocks'] ?? 0)).toBeLessThan(1200);
  expect(await cost()).toBeLessThan(alone + 20);
  await db.query(`delete from sluice.delayed where stream = 'crowd'`);
});

describe('is refused, and nothing is written', () => {
  const refused = async (work: () => Promise<unknown>): Promise<string> => {
    const error = await work().then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    return error instanceof SluiceError
      ? error.code
      : `${(error as Error | undefined)?.name}: ${String((error as Error | undefined)?.message)}`;
  };

  test.each<[string, object, RegExp]>([
    ['a negative delay', { delayMs: -1 }, /^RangeError: delayMs is -1; give .* from 0 to/],
    ['NaN', { delayMs: Number.NaN }, /^RangeError: delayMs is NaN/],
    ['a delay that is no number', { delayMs: '5' }, /^RangeError: delayMs is "5"; give/],
    [
      'a delay beyond maxDelayMs',
      { delayMs: 367 * 24 * HOUR },
      /^RangeError: delayMs is 31708800000; give .* to 31622400000/,
    ],
    ['both', { delayMs: 1, deliverAt: new Date() }, /^TypeError: deliverAt and delayMs are both given/],
    ['no date', { deliverAt: '2030-01-01' }, /^TypeError: deliverAt is "2030-01-01"; give a valid Date/],
    ['an invalid date', { deliverAt: new Date(Number.NaN) }, /^TypeError: deliverAt is Invalid Date/],
    [
      'a time beyond maxDelayMs',
      { deliverAt: new Date(Date.now() + 400 * 24 * HOUR) },
      /^RangeError: deliverAt is 2\d\d\d-.* raise maxDelayMs/,
    ],
  ])('%s', async (_, options, message) => {
    const stream = sluice.stream('refused');
    expect(await refused(() => stream.publish(1, options))).toMatch(message);
    expect(await refused(() => stream.publishMany([{ data: 1 }], options))).toMatch(message);
    expect((await waiting('refused')) + (await pendingIn(db, 'refused'))).toBe(0);
  });

  test.each([
    [`p_delay_ms => -1`, /delay_ms is -1/],
    [`p_delay_ms => 'NaN'`, /delay_ms is NaN/],
    [`p_delay_ms => 1, p_deliver_at => now()`, /both deliver_at and delay_ms/],
    [`p_deliver_at => 'infinity'`, /deliver_at is infinity/],
  ])('by SQL: %s', async (argument, message) => {
    await expect(db.query(`select sluice.publish('refused', '1', ${argument})`)).rejects.toThrow(message);
  });

  test('to a closed stream: at once; closed meanwhile: listed as undeliverable when it is due', async () => {
    const stream = sluice.stream('closing');
    await stream.publish(1, { delayMs: HOUR });
    await stream.append(0);
    await db.query(`select sluice.close_stream('closing')`);
    expect(await refused(() => stream.publish(2, { delayMs: HOUR }))).toBe('stream_closed');
    await letTimePass('closing');
    await passAll(db);
    const listed = [];
    for await (const row of sluice.undeliverable())
      if (row.stream === 'closing') listed.push([row.reason, row.data]);
    expect(listed).toEqual([['stream_closed', 1]]);
  });
});
