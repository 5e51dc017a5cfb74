// Guards publish, the heart of it: what a transaction publishes shares its fate, whatever kind of transaction that is,
// keeps its order, and never makes it wait or fail for a reason of ours (I1, I3). What is refused is refused before it
// could do harm: outside a transaction, on a pool, with a bad name.
import * as fc from 'fast-check';
import { connect, SluiceError, type Sluice, type SqlExecutor } from 'sluice';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { streamNameProblem, typeProblem } from '../../src/protocol/wire.ts';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { logOf, pass, passAll, pendingIn, publish, undeliverableTo } from '../support/log-sql.ts';

const db = useDatabase();
let sluice: Sluice;
beforeAll(async () => {
  // Nobody moves anything but passAll, so that a test decides when.
  sluice = await connect({ connectionString: db.connectionString, relay: false, fallbackPollMs: 600_000 });
});
afterAll(() => sluice.close());

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'ok',
    (error: unknown) => (error instanceof SluiceError ? error.code : String(error)),
  );
const delivered = async (stream: string): Promise<string[]> => {
  await passAll(db);
  return logOf(db, stream);
};

describe('I3: an event shares the fate of its transaction', () => {
  test('commit, rollback, and a transaction of its own', async () => {
    const stream = sluice.stream('fates');
    await using client = await openClient(db.connectionString);
    await client.query('begin');
    expect((await stream.publish('committed', { tx: client })).id).toMatch(/^\d+$/);
    expect(await delivered('fates')).toEqual([]);
    await client.query('commit');
    await client.query('begin');
    await stream.publish('rolled back', { tx: client });
    await client.query('rollback');
    await stream.publish('alone');
    expect(await delivered('fates')).toEqual(['"committed"', '"alone"']);
  });

  test('savepoints: what is rolled back to one is undone, the rest is not', async () => {
    const stream = sluice.stream('savepoints');
    await using client = await openClient(db.connectionString);
    await client.query('begin');
    await stream.publish(1, { tx: client });
    await client.query('savepoint a');
    await stream.publish(2, { tx: client });
    await client.query('savepoint b');
    await stream.publish(3, { tx: client });
    await client.query('rollback to savepoint a');
    await stream.publishMany([{ data: 4 }, { data: 5 }], { tx: client });
    await client.query('release savepoint a');
    await client.query('commit');
    expect(await delivered('savepoints')).toEqual(['1', '4', '5']);
  });

  test('two-phase commit: delivered once after COMMIT PREPARED, never after ROLLBACK PREPARED', async () => {
    const name = new URL(db.connectionString).pathname.slice(1);
    for (const [id, end] of [
      ['kept', 'commit'],
      ['dropped', 'rollback'],
    ]) {
      await using client = await openClient(db.connectionString);
      await client.query('begin');
      await client.query('select sluice.publish($1, $2, p_ring => false)', ['prepared', `"${id}"`]);
      await client.query(`prepare transaction '${name}_${id}'`);
      await client.end();
      expect(await delivered('prepared')).toEqual(id === 'kept' ? [] : ['"kept"']);
      await db.query(`${end} prepared '${name}_${id}'`);
    }
    expect(await delivered('prepared')).toEqual(['"kept"']);
    expect(await delivered('prepared')).toEqual(['"kept"']);
  });

  test('the connection dies before the commit', async () => {
    const client = await openClient(db.connectionString);
    await client.query('begin');
    await sluice.stream('died').publish(1, { tx: client });
    await db.query('select pg_terminate_backend($1)', [
      (client as unknown as { processID: number }).processID,
    ]);
    await expect(client.query('commit')).rejects.toThrow();
    expect(await delivered('died')).toEqual([]);
  });
});

describe('I1: order', () => {
  test('the events of one transaction stand together at the place of its first, however others’ come between', async () => {
    await using one = await openClient(db.connectionString);
    await using two = await openClient(db.connectionString);
    for (const client of [one, two]) await client.query('begin');
    const stream = sluice.stream('together');
    for (const [client, data] of [
      [one, 'a1'],
      [two, 'b1'],
      [one, 'a2'],
      [two, 'b2'],
      [one, 'a3'],
    ] as const) {
      await stream.publish(data, { tx: client });
    }
    await two.query('commit');
    await one.query('commit');
    expect(await delivered('together')).toEqual(['"a1"', '"a2"', '"a3"', '"b1"', '"b2"']);
  });

  test('what committed before another began stands first, whatever their ids', async () => {
    await using late = await openClient(db.connectionString);
    await late.query('begin');
    await sluice.stream('real time').publish('began first', { tx: late });
    await sluice.stream('real time').publish('committed first');
    expect(await delivered('real time')).toEqual(['"committed first"']);
    await late.query('commit');
    await sluice.stream('real time').publish('after both');
    expect(await delivered('real time')).toEqual(['"committed first"', '"began first"', '"after both"']);
  });

  test('interleaving 6: publish then append, and append then publish, in one transaction', async () => {
    await using client = await openClient(db.connectionString);
    await client.query('begin');
    await publish(client, 'mixed', 1, 2);
    expect((await client.query(`select sluice.append('mixed', '3') as offset`)).rows).toEqual([
      { offset: '3' },
    ]);
    await publish(client, 'mixed', 4);
    await client.query('commit');
    expect(await delivered('mixed')).toEqual(['1', '2', '3', '4']);
  });

  test('a batch is one after another, with each event’s own members', async () => {
    const events = Array.from({ length: 500 }, (_, n) => ({ data: n, key: n % 2 ? `k${n}` : undefined }));
    const { ids } = await sluice.stream('batch').publishMany(
      events.map(({ data, key }) => (key === undefined ? { data } : { data, key })),
      { type: 'common', headers: { of: 'all' } },
    );
    const numbers = ids.map(Number);
    expect(numbers).toEqual(numbers.toSorted((a, b) => a - b));
    await passAll(db);
    const { events: read } = await sluice.stream('batch').read();
    expect(read.map(({ data }) => data)).toEqual(events.map(({ data }) => data));
    expect(read.map(({ key }) => key ?? undefined)).toEqual(events.map(({ key }) => key));
    expect(read.at(-1)).toMatchObject({ type: 'common', headers: { of: 'all' } });
  });

  test('a trigger in any language publishes: the function is all there is', async () => {
    await db.query(
      `create table invoices (id integer primary key);
       create function tell() returns trigger language plpgsql as $$
       begin perform sluice.publish('triggered', to_json(new), 'invoice.' || lower(tg_op)); return new; end $$;
       create trigger tell after insert on invoices for each row execute function tell()`,
    );
    await db.query('insert into invoices select generate_series(1, 3)');
    expect(await delivered('triggered')).toEqual(['{"id":1}', '{"id":2}', '{"id":3}']);
    expect((await sluice.stream('triggered').read({ limit: 1 })).events[0]?.type).toBe('invoice.insert');
  });
});

describe('I3: publishing makes nobody wait and fails for nobody else', () => {
  test.each(['repeatable read', 'serializable'])(
    'at %s, while streams are created, closed, deleted and passed over',
    async (level) => {
      const stream = `levels ${level}`;
      const clients = await Promise.all(Array.from({ length: 6 }, () => openClient(db.connectionString)));
      for (let round = 0; round < 8; round += 1) {
        for (const client of clients)
          await client.query(`begin isolation level ${level}; select count(*) from sluice.streams`);
        if (round % 4 === 1) await db.query('select sluice.create_stream($1)', [`${stream} ${round}`]);
        if (round % 4 === 2) await passAll(db);
        if (round % 4 === 3) await sluice.deleteStream(`${stream} ${round - 2}`);
        await Promise.all(clients.map((client) => publish(client, `${stream} ${round % 4}`, round)));
        await Promise.all(clients.map((client) => sluice.stream(stream).publish(round, { tx: client })));
        if (round % 4 === 0) await passAll(db);
        await Promise.all(clients.map((client) => client.query('commit')));
      }
      for (const client of clients) await client.end();
      expect((await delivered(stream)).sort()).toEqual(
        Array.from({ length: 8 * clients.length }, (_, n) => String(Math.floor(n / clients.length))),
      );
    },
  );

  test('while its stream is held, passed over, created or deleted by a transaction that stays open', async () => {
    await sluice.createStream('busy');
    await sluice.createStream('going');
    await using holder = await openClient(db.connectionString);
    await holder.query('begin');
    await holder.query(`select sluice.append('busy', '1'), sluice.create_stream('coming')`);
    await holder.query(`select sluice.delete_stream('going')`);
    await publish(holder, 'busy', 2);
    await using client = await openClient(db.connectionString);
    await client.query(`set statement_timeout = '5s'; begin`);
    for (const stream of ['busy', 'coming', 'going']) {
      await publish(client, stream, 3);
      await sluice.stream(stream).publishMany([{ data: 4 }], { tx: client });
    }
    await client.query('commit');
    await using passer = await openClient(db.connectionString);
    await passer.query(`set statement_timeout = '5s'`);
    expect(await pass(passer)).toMatchObject({ moved: 0, more: true });
    await holder.query('commit');
    expect(await delivered('busy')).toEqual(['1', '2', '3', '4']);
    expect(await delivered('coming')).toEqual(['3', '4']);
    expect(await undeliverableTo(db, 'going')).toEqual(['stream_deleted:3', 'stream_deleted:4']);
  });

  test('a closed stream refuses at once; what was on its way is listed with all it carried', async () => {
    const stream = sluice.stream('closing');
    await stream.publish(1);
    await passAll(db);
    await using client = await openClient(db.connectionString);
    await client.query('begin');
    await stream.publish({ late: true }, { tx: client, type: 'order.placed', key: 'k', headers: { a: 'b' } });
    await db.query(`select sluice.close_stream('closing')`);
    expect(await codeOf(stream.publish(2))).toBe('stream_closed');
    await client.query('commit');
    expect(await delivered('closing')).toEqual(['1']);
    const listed = [];
    for await (const each of sluice.undeliverable()) if (each.stream === 'closing') listed.push(each);
    expect(listed).toEqual([
      {
        id: expect.stringMatching(/^\d+$/),
        stream: 'closing',
        reason: 'stream_closed',
        publishedAt: expect.any(Date),
        type: 'order.placed',
        key: 'k',
        headers: { a: 'b' },
        data: { late: true },
      },
    ]);
  });
});

describe('a tx that is none is refused, and nothing is written', () => {
  const stream = () => sluice.stream('no tx');
  /** Any driver but pg, seen through an adapter. */
  const generic = ({ query }: { query: SqlExecutor['query'] }): SqlExecutor => ({ query });

  test('a client outside a transaction', async () => {
    await using client = await openClient(db.connectionString);
    expect(await codeOf(stream().publish(1, { tx: client }))).toBe('tx_required');
    await client.query('begin; commit');
    expect(await codeOf(stream().publishMany([{ data: 1 }], { tx: client }))).toBe('tx_required');
  });

  test('an executor that cannot tell where it is', async () => {
    await using client = await openClient(db.connectionString);
    const tx = generic({ query: (text, values) => client.query(text, values) });
    await expect(stream().publish(1, { tx })).rejects.toMatchObject({
      code: 'tx_required',
      message: expect.stringMatching(/not inside a transaction.*begin first, or leave tx out/),
    });
    await client.query('begin');
    await sluice.stream('generic').publish(1, { tx });
    await sluice.stream('generic').publishMany([{ data: 2 }, { data: 3 }], { tx });
    await client.query('commit');
    expect(await delivered('generic')).toEqual(['1', '2', '3']);
  });

  test('a pool, or what cannot run a statement', async () => {
    await expect(stream().publish(1, { tx: db.pool })).rejects.toThrow(TypeError);
    await expect(stream().publish(1, { tx: db.pool })).rejects.toThrow(
      /tx is a pool.*check out a client, begin/,
    );
    for (const tx of [{}, null, 'begin', 5]) {
      await expect(stream().publish(1, { tx: tx as unknown as SqlExecutor })).rejects.toThrow(TypeError);
    }
  });

  test('an executor that does not give the rows it was answered', async () => {
    const tx: SqlExecutor = { query: async () => ({ rows: [] }) };
    for (const publishing of [stream().publish(1, { tx }), stream().publishMany([{ data: 1 }], { tx })]) {
      await expect(publishing).rejects.toThrow(
        /^tx.query must resolve to the rows that the server answered, 1 here, not 0;.*sluice\/adapters/,
      );
    }
  });

  test('a transaction that has failed', async () => {
    await using client = await openClient(db.connectionString);
    for (const tx of [client, generic({ query: (text, values) => client.query(text, values) })]) {
      await client.query('begin');
      await expect(client.query('select 1/0')).rejects.toThrow();
      await expect(stream().publish(1, { tx })).rejects.toMatchObject({
        code: 'tx_required',
        message: expect.stringMatching(/aborted.*; roll back and begin again/),
      });
      await client.query('rollback');
    }
  });

  test('a client whose connection is gone', async () => {
    const client = await openClient(db.connectionString);
    await client.query('begin');
    await db.query('select pg_terminate_backend($1)', [
      (client as unknown as { processID: number }).processID,
    ]);
    expect(await codeOf(stream().publish(1, { tx: client }))).toBe('connection_lost');
  });

  test('a bad event is refused before the transaction hears of it', async () => {
    await using client = await openClient(db.connectionString);
    await client.query('begin');
    expect(await codeOf(stream().publish(undefined, { tx: client }))).toBe('payload_invalid');
    expect(await codeOf(stream().publish(1, { tx: client, type: 'open' }))).toBe('name_invalid');
    expect(await codeOf(stream().publish('x'.repeat(2 ** 20), { tx: client }))).toBe('payload_too_large');
    await sluice.stream('goes on').publish(1, { tx: client });
    await client.query('commit');
    expect(await delivered('goes on')).toEqual(['1']);
  });

  test('none of it left a trace', async () => {
    await passAll(db);
    expect(await stream().info()).toBeNull();
    expect(await pendingIn(db)).toBe(0);
  });
});

describe('SQL judges as the library does', () => {
  const strings = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 20 }),
    fc.string({
      unit: fc.constantFrom('\u0001', '\u007f', '\u0085', '\u009f', '\u00a0', '\u2028', 'a', ' '),
      maxLength: 4,
    }),
    fc.integer({ min: 126, max: 130 }).map((length) => 'x'.repeat(length)),
    fc.integer({ min: 510, max: 514 }).map((length) => 'x'.repeat(length)),
    fc.integer({ min: 255, max: 257 }).map((length) => 'é'.repeat(length)),
    fc.constantFrom('open', 'error', 'Open', 'sluice:', 'sluice:reset', 'sluice', 'message'),
  );
  // PostgreSQL's text has neither NUL nor lone surrogates, so they never come as far as SQL.
  const texts = fc
    .sample(strings, 400)
    .filter((text) => !text.includes('\0') && Buffer.from(text).toString() === text);

  test('names of streams', async () => {
    const judged = texts.map(async (text) =>
      db.query('select sluice.check_stream_name($1)', [text]).then(
        () => true,
        () => false,
      ),
    );
    expect(await Promise.all(judged)).toEqual(texts.map((text) => streamNameProblem(text) === undefined));
    await expect(db.query(`select sluice.publish(e'a\\nb', '1')`)).rejects.toMatchObject({ code: 'SL004' });
    await expect(db.query(`select sluice.publish(null, '1')`)).rejects.toMatchObject({ code: 'SL004' });
  });

  test('types of events', async () => {
    const { rows } = await db.query<{ valid: boolean }>(
      'select sluice.type_is_valid(t) as valid from unnest($1::text[]) with ordinality u (t, n) order by n',
      [texts],
    );
    expect(rows.map(({ valid }) => valid)).toEqual(texts.map((text) => typeProblem(text) === undefined));
    for (const call of [
      `sluice.publish('typed', '1', 'open')`,
      `sluice.append('typed', '1', 'sluice:reset')`,
      `sluice.publish_many('typed', '1', array[e'a\\nb'])`,
    ]) {
      await expect(db.query(`select ${call}`), call).rejects.toMatchObject({ code: 'SL004' });
    }
  });

  test('data', async () => {
    await expect(db.query(`select sluice.publish('data', null)`)).rejects.toMatchObject({ code: 'SL005' });
    await expect(db.query(`select sluice.append('data', null)`)).rejects.toMatchObject({ code: 'SL005' });
    await expect(db.query(`select sluice.publish('data', '{')`)).rejects.toMatchObject({ code: '22P02' });
    await expect(
      db.query(`select sluice.publish('strict', '1', p_auto_create => false)`),
    ).rejects.toMatchObject({ code: 'SL001' });
    expect(await delivered('data')).toEqual([]);
  });
});
