// Guards that an event's audience goes with it from every way of writing to every way of reading (I10), that labels and
// exclusions are checked before and in the database, and that trusted readers see everything and are told whom it is for.
import { connect, type Sluice, type StreamEvent } from 'sluice';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { passAll } from '../support/log-sql.ts';

const db = useDatabase();
let sluice: Sluice;

beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString, fallbackPollMs: 100 });
});
afterAll(() => sluice.close());

const someone = '6f1c2a34-0000-4000-8000-00000000abcd';
const to = { visibleTo: 'admins', exclude: someone };

type Told = [data: unknown, visibleTo: string | null, exclude: string | null];
const toldBy = ({ data, visibleTo, exclude }: StreamEvent): Told => [data, visibleTo, exclude];
const readAll = async (name: string): Promise<Told[]> =>
  (await sluice.stream(name).read()).events.map(toldBy);
/** By subscription: replay and live. */
const take = async (name: string, count: number): Promise<Told[]> => {
  const taken: Told[] = [];
  for await (const event of sluice.stream(name).subscribe()) {
    if (taken.push(toldBy(event)) === count) return taken;
  }
  return taken;
};

describe('I10: the audience goes with the event', () => {
  test('however it is written, and read() and subscribe() see it all', async () => {
    const stream = sluice.stream('every way');
    await sluice.createStream('every way');
    const live = take('every way', 16);
    await stream.append(1, to);
    await stream.append(2);
    await stream.appendMany([{ data: 3 }, { data: 4, visibleTo: 'staff' }, { data: 5 }], to);
    await stream.append(6, { ...to, expectedOffset: 6n, idempotencyKey: 'six' });
    await Promise.all([stream.append(7, to), stream.append(8), sluice.stream('another').append(0, to)]);
    await stream.publish(9, to);
    await stream.publishMany([{ data: 10 }, { data: 11, exclude: null, visibleTo: 'staff' }], to);
    await stream.publish(12, { ...to, delayMs: 1 });
    await take('every way', 12);
    await db.query(`select sluice.publish('every way', '13', p_visible_to => 'admins', p_exclude => $1)`, [
      someone.toUpperCase(),
    ]);
    await db.query(
      `select sluice.publish('every way', '14', p_visible_to => 'admins', p_exclude => $1, p_idempotency_key => '14')`,
      [someone],
    );
    await take('every way', 14);
    await db.query(`select sluice.append('every way', '15', p_visible_to => 'admins', p_exclude => $1)`, [
      someone,
    ]);
    await db.query(`select sluice.append('every way', '16')`);
    const expected = Array.from({ length: 16 }, (_, index): Told => {
      const data = index + 1;
      if ([2, 8, 16].includes(data)) return [data, null, null];
      return [data, [4, 11].includes(data) ? 'staff' : 'admins', someone];
    });
    expect(await live).toEqual(expected);
    expect(await readAll('every way')).toEqual(expected);
    expect(await readAll('another')).toEqual([[0, 'admins', someone]]);
  });

  test('in the transaction of the caller, by any statement, and not after a rollback', async () => {
    await sluice.createStream('in tx');
    const client = await db.pool.connect();
    try {
      await client.query('begin');
      const stream = sluice.stream('in tx');
      await stream.publish(1, { ...to, tx: client });
      await client.query('savepoint before');
      await stream.publish(2, { visibleTo: 'staff', tx: client });
      await client.query('rollback to before');
      await stream.publishMany([{ data: 3, exclude: someone }], { tx: client });
      await client.query('commit');
    } finally {
      client.release();
    }
    expect(await take('in tx', 2)).toEqual([
      [1, 'admins', someone],
      [3, null, someone],
    ]);
  });

  test('a trigger gives it, with the connection from a setting, or nobody when that is empty', async () => {
    await sluice.createStream('cards');
    await db.query(
      `create table cards (id int primary key, secret boolean not null);
       create function cards_changed() returns trigger language plpgsql as $$
       begin
         perform sluice.publish('cards', to_json(new.id),
           p_visible_to => case when new.secret then 'admins' end,
           p_exclude => nullif(current_setting('app.connection_id', true), '')::uuid);
         return null;
       end $$;
       create trigger cards_changed after insert on cards for each row execute function cards_changed()`,
    );
    await db.query(
      `begin; set local app.connection_id = '${someone}'; insert into cards values (1, true); commit`,
    );
    await db.query('insert into cards values (2, false)');
    expect(await take('cards', 2)).toEqual([
      [1, 'admins', someone],
      [2, null, null],
    ]);
  });

  test('a repetition of its key changes nothing about it', async () => {
    const stream = sluice.stream('repeated');
    await stream.append(1, { ...to, idempotencyKey: 'a' });
    await stream.append(1, { idempotencyKey: 'a' });
    await stream.publish(1, { visibleTo: 'staff', idempotencyKey: 'a' });
    await stream.publish(2, { ...to, idempotencyKey: 'b' });
    await stream.publish(2, { idempotencyKey: 'b' });
    await take('repeated', 2);
    await passAll(db);
    expect(await readAll('repeated')).toEqual([
      [1, 'admins', someone],
      [2, 'admins', someone],
    ]);
  });

  test('what cannot be delivered keeps it, so that nobody publishes it again to everybody', async () => {
    await using writer = await connect({
      connectionString: db.connectionString,
      relay: false,
      fallbackPollMs: 600_000,
    });
    const listed = async (name: string): Promise<object[]> => {
      const found: object[] = [];
      for await (const { stream, data, visibleTo, exclude } of writer.undeliverable()) {
        if (stream === name) found.push({ data, visibleTo, exclude });
      }
      return found;
    };
    for (const name of ['closing', 'deleted']) await sluice.createStream(name);
    const client = await db.pool.connect();
    try {
      await client.query('begin');
      for (const name of ['closing', 'deleted']) await writer.stream(name).publish(1, { ...to, tx: client });
      await sluice.deleteStream('deleted');
      await db.query(`select sluice.close_stream('closing')`);
      await client.query('commit');
    } finally {
      client.release();
    }
    await passAll(db);
    expect(await listed('closing')).toEqual([{ data: 1, ...to }]);
    expect(await listed('deleted')).toEqual([{ data: 1, ...to }]);
  });

  test('it is no part of the envelope', async () => {
    await sluice.stream('wire').append(1, to);
    const { events } = await sluice.stream('wire').read();
    expect(JSON.parse(JSON.stringify(events))).toEqual([
      { stream: 'wire', offset: '1', type: null, key: null, data: 1, at: expect.any(String) },
    ]);
  });
});

describe('what is no audience is refused before anything is written', () => {
  const label = 'é'.repeat(64);

  test.each([
    ['an empty label', { visibleTo: '' }],
    ['one of 129 bytes', { visibleTo: `${label}x` }],
    ['null, which somebody could take for a label that was looked up', { visibleTo: null }],
    ['a list', { visibleTo: ['admins'] }],
    ['U+0000', { visibleTo: 'a\0' }],
    ['half a pair', { visibleTo: 'a\ud800' }],
    ['an empty exclusion', { exclude: '' }],
    ['one that is no id', { exclude: 'everybody' }],
    ['one in braces', { exclude: `{${someone}}` }],
    ['a number', { exclude: 7 }],
  ])('%s', async (_, given) => {
    const options = given as unknown as { visibleTo: string };
    const stream = sluice.stream('refused');
    const event = { data: 1, ...options };
    for (const write of [
      () => stream.append(1, options),
      () => stream.publish(1, options),
      () => stream.appendMany([{ data: 0 }, event]),
      () => stream.publishMany([event]),
    ]) {
      await expect(write()).rejects.toMatchObject({ code: 'name_invalid' });
    }
    expect(await sluice.stream('refused').info()).toBeNull();
  });

  test.each([
    [`publish('s', '1', p_visible_to => '')`],
    [`publish('s', '1', p_visible_to => repeat('x', 129))`],
    [`publish('s', '1', p_visible_to => repeat('é', 65), p_idempotency_key => 'k')`],
    [`publish_many('s', '1', p_visible_to => array[''])`],
    [`append('s', '1', p_visible_to => '')`],
    [`append_batch(array['s'], array[1], '1', array[0], p_visible_to => array[repeat('x', 129)])`],
  ])('by sluice.%s', async (call) => {
    await expect(db.query(`select sluice.${call}`)).rejects.toThrow(/^visible_to '.*' is not valid: it has/);
    expect((await db.query(`select from sluice.streams where name = 's'`)).rowCount).toBe(0);
  });

  test('the longest label is taken', async () => {
    await sluice.stream('long').append(1, { visibleTo: label });
    await db.query(`select sluice.append('long', '2', p_visible_to => $1)`, [label]);
    expect(await readAll('long')).toEqual([
      [1, label, null],
      [2, label, null],
    ]);
  });
});
