// The control of the chaos tests: the same writers, the same checker, and a design that many products ship, a table with
// a bigserial and readers that ask for `id > cursor`. It must be found to lose events, or the checker proves nothing.
import { Pool, type PoolClient } from 'pg';
import { beforeAll, expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { checkHistory, summarize, type History, type Reading, type Seen } from '../support/history.ts';
import { withSeed } from '../support/seed.ts';
import { Writers, type Design } from '../support/writers.ts';

const db = useDatabase({ migrated: false });

interface Row {
  readonly id: string;
  readonly value: string;
}

beforeAll(async () => {
  await db.query(
    `create table events (id bigserial primary key, stream text not null, value text not null);
     create index on events (stream, id)`,
  );
});

const insertInto = (pool: Pool): Design => {
  const insert = async (stream: string, values: readonly string[], client?: PoolClient): Promise<void> => {
    const text = 'insert into events (stream, value) select $1, unnest($2::text[])';
    await (client ?? pool).query(text, [stream, values]);
  };
  return {
    append: async (stream, values) => {
      await insert(stream, values);
      return undefined;
    },
    publish: insert,
  };
};

const readAfter = async (stream: string, cursor: string): Promise<Row[]> => {
  const { rows } = await db.query<{ id: string; value: string }>(
    'select id, value from events where stream = $1 and id > $2 order by id',
    [stream, cursor],
  );
  return rows;
};

/** Polls until told to end, and once more after that; returns what it got. */
async function follow(stream: string, signal: AbortSignal): Promise<Row[]> {
  const got: Row[] = [];
  for (let last = false; !last;) {
    last = signal.aborted;
    got.push(...(await readAfter(stream, got.at(-1)?.id ?? '0')));
  }
  return got;
}

// An id has holes where a transaction was rolled back; what the checker calls an offset is the rank of the id.
async function historyOf(writers: Writers, got: ReadonlyMap<string, readonly Row[]>): Promise<History> {
  const logs = new Map<string, Seen[]>();
  const readings: Reading[] = [];
  for (const [stream, rows] of got) {
    const log = (await readAfter(stream, '0')).map(({ id, value }, index) => ({
      offset: BigInt(index + 1),
      value,
      cursor: id,
    }));
    const byId = new Map(log.map((entry) => [entry.cursor, entry]));
    logs.set(stream, log);
    readings.push({ reader: 'poller', stream, after: 0n, events: rows.map(({ id }) => byId.get(id)!) });
  }
  return { transactions: writers.transactions, logs, readings };
}

test('a serial and `id > cursor` lose what was committed, and the checker says so', async () => {
  await withSeed(async (seed) => {
    const pool = new Pool({ connectionString: db.connectionString, max: 16 });
    const streams = ['a', 'b', 'c', 'd'];
    const writers = new Writers({ seed, designs: [insertInto(pool)], pool, streams });
    const done = new AbortController();
    const followers = streams.map(async (stream) => [stream, await follow(stream, done.signal)] as const);
    await writers.run(30);
    await pool.end();
    done.abort();
    const history = await historyOf(writers, new Map(await Promise.all(followers)));
    const violations = checkHistory(history);
    const lost = violations.filter(({ rule }) => rule === 'I2 lost');
    expect(lost.length, summarize(violations)).toBeGreaterThan(0);
    // Readers have gone past them: no wait, no reconnect brings them back.
    expect(lost.filter(({ loss }) => loss !== 'postfix')).toEqual(lost);
    // The database itself did nothing wrong.
    expect(violations.filter(({ rule }) => rule.startsWith('I3'))).toEqual([]);
  });
});
