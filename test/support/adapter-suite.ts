// Owns what has to hold for every adapter, run by test/db/adapters-<library>.test.ts with the real library: an event is
// part of the library's own transaction (I3), and everything an event can carry comes through its driver unharmed.
import { connect, type Sluice } from 'sluice';
import type { SqlExecutor } from 'sluice/adapters';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { textArrayLiteral } from '../../src/db/array-literal.ts';
import { useDatabase, type Database } from './database.ts';

/** An open transaction of the library, or a savepoint in one. */
export interface Work {
  readonly tx: SqlExecutor;
  /** Runs a statement the library's own way. */
  readonly run: (statement: string) => Promise<unknown>;
  /** Runs work inside a savepoint, rolled back to when the work throws. */
  readonly nested: (work: (inner: Work) => Promise<void>) => Promise<void>;
}

/** A library connected to a database. */
export interface Library {
  /** Commits, or rolls back when the work throws. */
  transaction(work: (outer: Work) => Promise<void>): Promise<void>;
  /** What a user might pass by mistake, which is in no transaction. */
  outside(): SqlExecutor;
  close(): Promise<void>;
}

export interface AdapterSuite {
  readonly name: string;
  /** Makes no connection yet. */
  open(connectionString: string): Library;
  /** Whether the library tells by itself that it is not in a transaction. */
  readonly knows: boolean;
  /** Calls of the adapter with something else; with what the error should name. */
  readonly wrong: readonly (readonly [call: () => unknown, expected: RegExp])[];
}

class Undone extends Error {}
const undo = (): never => {
  throw new Undone('rolled back on purpose');
};

/** Texts that a driver, a query builder or an array literal could take for something else. */
const awkward = [
  'plain',
  '',
  'NULL',
  'null',
  '{a,b}',
  '"quoted" \'and\' `ticked`',
  'back\\slash \\? \\$1 \\n',
  '$1 ? ?? :name ::json ${x} $$',
  ' spaces, commas; -- comment /* too */ ',
  'line\nbreak\ttab',
  '100%',
  'true',
  '2024-01-01T00:00:00.000Z',
  'ünï¢ødé 😀 \u2028',
];
const values: readonly unknown[] = [
  ...awkward,
  '{"a":1}',
  '[1,2]',
  '12',
  0,
  -1.5e-7,
  true,
  false,
  null,
  [],
  {},
  ['a', null, ['b']],
  { nested: { list: [1, 'two', null], 'a?b $1': '?' } },
];

export function describeAdapter(suite: AdapterSuite): void {
  describe(suite.name, () => {
    const db = useDatabase();
    let sluice: Sluice;
    let library: Library;
    let streams = 0;
    const nextStream = (): string => `${suite.name} ${(streams += 1)}`;

    beforeAll(async () => {
      sluice = await connect({ connectionString: db.connectionString });
      library = suite.open(db.connectionString);
      await db.query('create table own_rows (value text)');
    });
    afterAll(async () => {
      await library.close();
      await sluice.close();
    });

    const setup: Setup = { suite, db, sluice: () => sluice, library: () => library, nextStream };
    describe('inside a transaction', () => testAtomicity(setup));
    describe('what an event carries', () => testContent(setup));
    describe('refusals', () => testRefusals(setup));
    describe('statements', () => testStatements(setup));
  });
}

interface Setup {
  readonly suite: AdapterSuite;
  readonly db: Database;
  readonly nextStream: () => string;
  readonly sluice: () => Sluice;
  readonly library: () => Library;
}

/** All events of a stream, as a subscriber gets them; an appended event marks the end. */
async function delivered(sluice: Sluice, stream: string): Promise<Record<string, unknown>[]> {
  const { offset } = await sluice.stream(stream).append('the end');
  const events: Record<string, unknown>[] = [];
  for await (const event of sluice.stream(stream).subscribe()) {
    if (event.offset === offset) break;
    const { type, key, headers, data } = event;
    events.push({ type, key, headers, data });
  }
  return events;
}

const dataOf = async (sluice: Sluice, stream: string): Promise<unknown[]> =>
  (await delivered(sluice, stream)).map(({ data }) => data);

const ownRows = async (db: Database, stream: string): Promise<number> =>
  (await db.query('select from own_rows where value = $1', [stream])).rows.length;

const insertOwn = (stream: string): string => `insert into own_rows values ('${stream}')`;

function testAtomicity({ db, sluice, library, nextStream }: Setup): void {
  test('I3: what is committed is delivered, with the rows beside it', async () => {
    const name = nextStream();
    const stream = sluice().stream(name);
    await library().transaction(async ({ tx, run }) => {
      await run(insertOwn(name));
      expect((await stream.publish('one', { tx })).id).toMatch(/^\d+$/);
      const { ids } = await stream.publishMany([{ data: 'two' }, { data: 'three' }], { tx });
      expect(ids).toHaveLength(2);
      for (const id of ids) expect(id).toMatch(/^\d+$/);
      // Not a part of the transaction of another connection.
      expect(await ownRows(db, name)).toBe(0);
      const { rows } = await db.query('select from sluice.outbox where stream = $1', [name]);
      expect(rows).toHaveLength(0);
    });
    expect(await dataOf(sluice(), name)).toEqual(['one', 'two', 'three']);
    expect(await ownRows(db, name)).toBe(1);
  });

  test('I3: what is rolled back is not', async () => {
    const name = nextStream();
    const work = library().transaction(async ({ tx, run }) => {
      await run(insertOwn(name));
      await sluice().stream(name).publish('one', { tx });
      await sluice()
        .stream(name)
        .publishMany([{ data: 'two' }, { data: 'three' }], { tx });
      undo();
    });
    await expect(work).rejects.toThrow('on purpose');
    expect(await dataOf(sluice(), name)).toEqual([]);
    expect(await ownRows(db, name)).toBe(0);
  });

  test('I3: a savepoint takes with it what was published in it, and nothing else', async () => {
    const name = nextStream();
    const stream = sluice().stream(name);
    await library().transaction(async (outer) => {
      await stream.publish('before', { tx: outer.tx });
      const inner = outer.nested(async ({ tx, run }) => {
        await run(insertOwn(name));
        await stream.publish('undone', { tx });
        await stream.publishMany([{ data: 'undone' }, { data: 'too' }], { tx });
        undo();
      });
      await expect(inner).rejects.toThrow('on purpose');
      await outer.nested(async ({ tx }) => {
        await stream.publish('kept', { tx });
      });
      await stream.publish('after', { tx: outer.tx });
    });
    expect(await dataOf(sluice(), name)).toEqual(['before', 'kept', 'after']);
    expect(await ownRows(db, name)).toBe(0);
  });

  test('I3: a savepoint that is kept goes with the transaction around it', async () => {
    const name = nextStream();
    const work = library().transaction(async (outer) => {
      await outer.nested(async ({ tx }) => {
        await sluice().stream(name).publish('undone', { tx });
      });
      undo();
    });
    await expect(work).rejects.toThrow('on purpose');
    expect(await dataOf(sluice(), name)).toEqual([]);
  });
}

function testContent({ db, sluice, library, nextStream }: Setup): void {
  test('every JSON value arrives as it was given, without type, key and headers', async () => {
    const name = nextStream();
    const stream = sluice().stream(name);
    await library().transaction(async ({ tx }) => {
      for (const data of values) await stream.publish(data, { tx });
      await stream.publishMany(
        values.map((data) => ({ data })),
        { tx },
      );
    });
    const bare = values.map((data) => ({ type: null, key: null, headers: {}, data }));
    expect(await delivered(sluice(), name)).toEqual([...bare, ...bare]);
  });

  test('type, key and headers arrive, of each event its own', async () => {
    const name = nextStream();
    const stream = sluice().stream(name);
    const events = awkward.map((text, index) => ({
      data: index,
      type: `type.${index} ?`,
      key: text,
      headers: { [text]: text },
    }));
    // With some that have nothing, so that the columns have holes.
    const mixed = events.flatMap((event) => [event, { data: 'bare' }]);
    await library().transaction(async ({ tx }) => {
      for (const { data, ...options } of events) await stream.publish(data, { tx, ...options });
      await stream.publishMany(mixed, { tx });
      await stream.publishMany([{ data: 1, key: 'k' }, { data: 2 }], { tx });
    });
    const bare = { type: null, key: null, headers: {} };
    expect(await delivered(sluice(), name)).toEqual([
      ...events,
      ...mixed.map((event) => ({ ...bare, ...event })),
      { ...bare, data: 1, key: 'k' },
      { ...bare, data: 2 },
    ]);
  });

  test('I10: whom an event is for arrives, of each event its own', async () => {
    const name = nextStream();
    const stream = sluice().stream(name);
    const exclude = '6f1c2a34-0000-4000-8000-00000000abcd';
    await library().transaction(async ({ tx }) => {
      await stream.publish(1, { tx, visibleTo: 'a ?, "b" \\' });
      await stream.publish(2, { tx, exclude });
      await stream.publishMany([{ data: 3, visibleTo: '{"a"}' }, { data: 4 }, { data: 5, exclude }], { tx });
    });
    await delivered(sluice(), name);
    const { events } = await sluice().stream(name).read();
    expect(events.slice(0, 5).map(({ visibleTo, exclude: left }) => [visibleTo, left])).toEqual([
      ['a ?, "b" \\', null],
      [null, exclude],
      ['{"a"}', null],
      [null, null],
      [null, exclude],
    ]);
  });

  test('a payload of a mebibyte', async () => {
    const name = nextStream();
    const data = `?'${'$1"\\'.repeat(150_000)}`;
    await library().transaction(async ({ tx }) => {
      await sluice().stream(name).publish(data, { tx });
      await sluice().stream(name).publishMany([{ data }, { data }], { tx });
    });
    expect(await dataOf(sluice(), name)).toEqual([data, data, data]);
  });

  test('a schema with a name that asks for trouble', async () => {
    const schema = `it's "a" $1 ?? schema`;
    const { connectionString } = db;
    await using other = await connect({ connectionString, schema, migrate: 'apply' });
    const stream = other.stream('any');
    await library().transaction(async ({ tx }) => {
      await stream.publish(1, { tx });
      await stream.publishMany([{ data: 2 }, { data: 3, type: 't' }], { tx });
    });
    expect(await dataOf(other, 'any')).toEqual([1, 2, 3]);
  });
}

function testRefusals({ suite, db, sluice, library, nextStream }: Setup): void {
  const nothingIn = async (name: string): Promise<void> => {
    const { rows } = await db.query('select from sluice.outbox where stream = $1', [name]);
    expect(rows).toHaveLength(0);
    expect(await sluice().stream(name).info()).toBeNull();
  };

  test('I3: outside a transaction it is refused, and nothing is written', async () => {
    const name = nextStream();
    const tx = library().outside();
    const stream = sluice().stream(name);
    await expect(stream.publish(1, { tx })).rejects.toMatchObject({ code: 'tx_required', retryable: false });
    await expect(stream.publishMany([{ data: 1 }, { data: 2 }], { tx })).rejects.toMatchObject({
      name: 'SluiceError',
      code: 'tx_required',
    });
    await nothingIn(name);
  });

  if (suite.knows) {
    test('without asking a server', async () => {
      const nowhere = suite.open('postgres://nobody@127.0.0.1:1/nothing');
      const publishing = sluice().stream(nextStream()).publish(1, { tx: nowhere.outside() });
      await expect(publishing).rejects.toMatchObject({ code: 'tx_required' });
      await nowhere.close();
    });
  }

  test('I3: a transaction that has ended is refused, and nothing is written', async () => {
    const name = nextStream();
    let ended: SqlExecutor | undefined;
    await library().transaction(async ({ tx }) => {
      ended = tx;
    });
    await expect(sluice().stream(name).publish(1, { tx: ended })).rejects.toThrow();
    await nothingIn(name);
  });

  test('what the server refuses has its code and its own message', async () => {
    const name = nextStream();
    await sluice().createStream(name);
    await db.query('select sluice.close_stream($1)', [name]);
    const stream = sluice().stream(name);
    const refusals: unknown[] = [];
    for (const events of [[{ data: 'secret' }], [{ data: 'secret' }, { data: 2 }]]) {
      const work = library().transaction(async ({ tx, run }) => {
        await run(insertOwn(name));
        await stream.publishMany(events, { tx }).catch((error: unknown) => refusals.push(error));
        undo();
      });
      await expect(work).rejects.toThrow();
    }
    const closed = { name: 'SluiceError', code: 'stream_closed', message: `stream '${name}' is closed` };
    expect(refusals).toMatchObject([closed, closed]);
    expect(await ownRows(db, name)).toBe(0);
  });

  test('something else is named as such', () => {
    for (const [call, expected] of suite.wrong) {
      expect(call).toThrow(TypeError);
      expect(call).toThrow(/^unknown adapter shape: /);
      expect(call).toThrow(expected);
    }
  });
}

function testStatements({ library }: Setup): void {
  const answer = async (text: string, given: unknown[]): Promise<unknown[]> => {
    let rows: unknown[] = [];
    await library().transaction(async ({ tx }) => {
      ({ rows } = await tx.query(text, given));
    });
    return rows;
  };

  test('rows are plain objects', async () => {
    expect(await answer(`select '1' as a, null::text as b union all select '2', 'x'`, [])).toStrictEqual([
      { a: '1', b: null },
      { a: '2', b: 'x' },
    ]);
    expect(await answer('select where false', [])).toStrictEqual([]);
  });

  test('parameters may repeat and come in any order; a list goes as text', async () => {
    const list = ['x', null, 'NULL', 'y "z" \\, {'];
    const [row] = await answer(
      `select $2::text || $1::text || $2::text as text, to_json($3::text::text[])::text as list, $4::boolean as flag,
              $5::text as nothing`,
      ['b', 'a', textArrayLiteral(list), true, null],
    );
    expect(row).toStrictEqual({ text: 'aba', list: JSON.stringify(list), flag: true, nothing: null });
  });

  test('what only looks like a parameter is none', async () => {
    const [row] = await answer(
      `select '$1 ? ??' as "a $1 ?", $$ $1 ? $$ as b, e'\\'$1 ?' as c, /* $9 ? /* ? */ */
              '{"k?":1}'::jsonb ? $1 as d -- $9 ?
       `,
      ['k?'],
    );
    expect(row).toStrictEqual({ 'a $1 ?': '$1 ? ??', b: ' $1 ? ', c: "'$1 ?", d: true });
  });
}
