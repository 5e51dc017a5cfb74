// Guards expectedOffset: of writers that decided on the same head exactly one wins, and the others learn the head.
import { connect, SluiceError, type Sluice } from 'sluice';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { logOf, pass, publish } from '../support/log-sql.ts';

const db = useDatabase();
let sluices: Sluice[];
beforeAll(async () => {
  const options = { connectionString: db.connectionString, relay: false, fallbackPollMs: 600_000 };
  sluices = await Promise.all([connect(options), connect(options)]);
});
afterAll(() => Promise.all(sluices.map((sluice) => sluice.close())));

const conflict = async (work: Promise<unknown>): Promise<bigint | undefined> => {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(SluiceError);
  expect(error).toMatchObject({ code: 'offset_conflict', retryable: false });
  return (error as SluiceError).head;
};

test('the next offset is accepted, any other is a conflict that carries the head and writes nothing', async () => {
  const stream = sluices[0]!.stream('one');
  expect(await stream.append('a', { expectedOffset: 1n })).toMatchObject({ offset: 1n });
  expect(await conflict(stream.append('b', { expectedOffset: 1n }))).toBe(1n);
  expect(await conflict(stream.append('b', { expectedOffset: 3n }))).toBe(1n);
  expect(await stream.appendMany([{ data: 'b' }, { data: 'c' }], { expectedOffset: 2n })).toMatchObject({
    first: 2n,
    last: 3n,
  });
  expect(await conflict(stream.appendMany([{ data: 'd' }, { data: 'e' }], { expectedOffset: 3n }))).toBe(3n);
  await expect(stream.append('x', { expectedOffset: 9n })).rejects.toThrow(
    'stream "one" has the head 3, so the next offset is 4 and not 9; nothing was appended: read on, and decide again',
  );
  expect(await logOf(db, 'one')).toEqual(['"a"', '"b"', '"c"']);
});

test('what is published and not yet moved comes first, and counts', async () => {
  const stream = sluices[0]!.stream('pending');
  await stream.publish('published');
  expect(await conflict(stream.append('late', { expectedOffset: 1n }))).toBe(1n);
  expect(await logOf(db, 'pending')).toEqual(['"published"']);
});

test('50 racing appenders in two processes: each offset has one winner, and nobody is lost', async () => {
  const wins: bigint[] = [];
  let conflicts = 0;
  await Promise.all(
    Array.from({ length: 50 }, async (_, n) => {
      const stream = sluices[n % 2]!.stream('race');
      for (let expectedOffset = 1n; ;) {
        try {
          const { offset } = await stream.append(n, { expectedOffset });
          expect(offset).toBe(expectedOffset);
          wins.push(offset);
          return;
        } catch (error) {
          if (!(error instanceof SluiceError) || error.head === undefined) throw error;
          conflicts += 1;
          expectedOffset = error.head + 1n;
        }
      }
    }),
  );
  expect(wins.toSorted((a, b) => Number(a - b))).toEqual(Array.from({ length: 50 }, (_, n) => BigInt(n + 1)));
  expect(conflicts).toBeGreaterThan(0);
  expect((await logOf(db, 'race')).map(Number).toSorted((a, b) => a - b)).toEqual(
    Array.from({ length: 50 }, (_, n) => n),
  );
});

test('among plain appends of the same process the order of calls holds', async () => {
  const stream = sluices[0]!.stream('mixed');
  const results = await Promise.allSettled([
    stream.append(1),
    stream.append(2),
    stream.append(3, { expectedOffset: 3n }),
    stream.append('lost', { expectedOffset: 3n }),
    stream.append(4),
    stream.append(5, { expectedOffset: 5n }),
  ]);
  expect(results.map(({ status }) => status)).toEqual([
    'fulfilled',
    'fulfilled',
    'fulfilled',
    'rejected',
    'fulfilled',
    'fulfilled',
  ]);
  expect(await logOf(db, 'mixed')).toEqual(['1', '2', '3', '4', '5']);
});

test('with an idempotency key a repeated append is a duplicate and no conflict', async () => {
  const stream = sluices[0]!.stream('both');
  const options = { expectedOffset: 1n, idempotencyKey: 'k' };
  const first = await stream.append('a', options);
  await stream.append('b');
  expect(await stream.append('a', options)).toEqual({ ...first, duplicate: true });
  expect(await conflict(stream.append('c', { expectedOffset: 1n, idempotencyKey: 'other' }))).toBe(2n);
  expect(await stream.append('c', { expectedOffset: 3n, idempotencyKey: 'other' })).toMatchObject({
    duplicate: false,
  });
});

test('a missing stream has the head 0, and a conflict does not make it; without autoCreate it stays missing', async () => {
  const missing = sluices[0]!.stream('missing');
  const conflicts = [2n, 7n].map(async (expectedOffset) => conflict(missing.append(1, { expectedOffset })));
  const beside = sluices[0]!.stream('beside').append(1);
  expect(await Promise.all(conflicts)).toEqual([0n, 0n]);
  expect(await conflict(missing.append(1, { expectedOffset: 2n, idempotencyKey: 'once' }))).toBe(0n);
  expect(await missing.info()).toBeNull();
  expect(await beside).toMatchObject({ offset: 1n });
  await missing.publish('makes it');
  expect(await missing.append('next', { expectedOffset: 2n, idempotencyKey: 'once' })).toMatchObject({
    offset: 2n,
    duplicate: false,
  });
  await using strict = await connect({
    connectionString: db.connectionString,
    relay: false,
    autoCreate: false,
  });
  await expect(strict.stream('never').append(1, { expectedOffset: 1n })).rejects.toMatchObject({
    code: 'stream_not_found',
  });
});

test('a stream that a pass is just making is waited for, not told to be empty: what was published counts', async () => {
  await publish(db, 'in the making', 1);
  await using client = await openClient(db.connectionString);
  await client.query('begin');
  await pass(client);
  const append = async (): Promise<unknown> => {
    const { rows } = await db.query(
      `select outcome, last_offset::int as last
       from sluice.append_batch('{in the making}', '{1}', '2', '{1}', p_expected => '{2}')`,
    );
    return rows[0];
  };
  expect(await append()).toMatchObject({ outcome: 'held' });
  await client.query('commit');
  expect(await append()).toEqual({ outcome: 'ok', last: 2 });
});

test.each<[unknown, string]>([
  [0n, 'RangeError: expectedOffset is 0; the first offset of a stream is 1'],
  [-1n, 'RangeError: expectedOffset is -1; the first offset of a stream is 1'],
  [5, 'TypeError: expectedOffset is the number 5; give a bigint, such as head + 1n'],
  ['5', 'TypeError: expectedOffset is of type string; give a bigint, such as head + 1n'],
  [2n ** 63n, 'RangeError: expectedOffset is 9223372036854775808; offsets end at 9223372036854775807'],
])('expectedOffset %s is refused', async (expectedOffset, message) => {
  const options = { expectedOffset: expectedOffset as bigint };
  await expect(
    sluices[0]!
      .stream('one')
      .append(1, options)
      .catch((error: unknown) => String(error)),
  ).resolves.toBe(message);
});

test('by SQL', async () => {
  await db.query(`select sluice.append('sql', '1', p_expected_offset => 1)`);
  await expect(db.query(`select sluice.append('sql', '2', p_expected_offset => 1)`)).rejects.toMatchObject({
    code: 'SL007',
    message: `stream 'sql' has the head 1, so the next offset is 2 and not 1`,
  });
});
