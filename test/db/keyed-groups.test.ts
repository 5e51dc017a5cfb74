// Guards keyed groups (I6): events of one key are handled one after another, in order, also across retries, consumers
// that come and go, and a key that is stuck; other keys go on meanwhile.
import { once } from 'node:events';
import { connect, type Sluice, type Stream } from 'sluice';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';
import { fill } from '../support/filled.ts';
import { upTo } from '../support/up-to.ts';

const db = useDatabase({ allowOpenSessions: true });
let [here, there]: Sluice[] = [];
beforeAll(async () => {
  const options = { connectionString: db.connectionString, fallbackPollMs: 200 };
  [here, there] = await Promise.all([connect(options), connect(options)]);
});
afterAll(async () => Promise.all([here?.close(), there?.close()]));

const SOON = { backoff: { initialMs: 1, maxMs: 20 } };
const KEYED = { ...SOON, keyed: { partitions: 8 } };

const filled = async (count: number, keyOf?: (n: number) => string | undefined): Promise<Stream<number>> =>
  fill(here as Sluice, count, keyOf);
const keyOf = (n: number): string => `key ${n % 17}`;

/** What each key's handlers did, in order; fails when two of one key run at a time. */
class Ledger {
  readonly done = new Map<string, number[]>();
  readonly #running = new Set<string>();
  overlaps = 0;
  count = 0;

  async handle(key: string, n: number, work: () => Promise<void>): Promise<void> {
    if (this.#running.has(key)) this.overlaps += 1;
    this.#running.add(key);
    try {
      await work();
      this.done.set(key, [...(this.done.get(key) ?? []), n]);
      this.count += 1;
    } finally {
      this.#running.delete(key);
    }
  }

  assertInOrder(total: number): void {
    expect(this.overlaps).toBe(0);
    expect(this.count).toBe(total);
    for (const [key, numbers] of this.done) {
      expect([key, numbers]).toEqual([key, upTo(total).filter((n) => keyOf(n) === key)]);
    }
  }
}

test('I6: per key in order and one at a time, with several consumers, retries and failures', async () => {
  const stream = await filled(600, keyOf);
  const ledger = new Ledger();
  const ending = new AbortController();
  const consuming = [here, there, here].map(async (sluice) =>
    sluice
      ?.stream<number>(stream.name)
      .group('g', KEYED)
      .consume(
        async ({ data, key }, { attempt }) =>
          ledger.handle(key ?? '', data, async () => {
            await new Promise(setImmediate);
            if (data % 23 === 0 && attempt < 3) throw new Error('not yet');
          }),
        { concurrency: 4, signal: ending.signal },
      ),
  );
  await until(() => ledger.count === 600);
  ending.abort();
  await Promise.all(consuming);
  ledger.assertInOrder(600);
  expect(await stream.group('g').stats()).toMatchObject({ lag: 0, retries: 0, inFlight: 0, dead: 0 });
});

test('I6: a batch has each key once, and what fails in it is not overtaken', async () => {
  const stream = await filled(300, keyOf);
  const ledger = new Ledger();
  const ending = new AbortController();
  const consuming = stream.group('g', KEYED).consumeBatch(
    async (events, context) => {
      expect(new Set(events.map(({ key }) => key)).size).toBe(events.length);
      for (const { data, key, offset } of events) {
        if (data % 10 === 0 && context.attempt(offset) === 1) context.fail(offset, 'not yet');
        else await ledger.handle(key ?? '', data, async () => Promise.resolve());
      }
    },
    { maxBatch: 20, concurrency: 2, signal: ending.signal },
  );
  await until(() => ledger.count === 300);
  ending.abort();
  await consuming;
  ledger.assertInOrder(300);
});

test('I6: a stuck key blocks only itself, however much comes after it', async () => {
  const stream = await filled(3000, (n) => (n % 2 === 0 ? 'stuck' : `key ${n}`));
  const ending = new AbortController();
  const released = new AbortController();
  const done: number[] = [];
  const consuming = stream.group('g', KEYED).consume(
    async ({ data, key }) => {
      if (key === 'stuck' && !released.signal.aborted) await once(released.signal, 'abort');
      done.push(data);
    },
    { concurrency: 2, signal: ending.signal },
  );
  await until(() => done.length === 1500);
  expect(done.every((n) => n % 2 === 1)).toBe(true);
  released.abort();
  await until(() => done.length === 3000);
  ending.abort();
  await consuming;
  expect(done.slice(1500)).toEqual(upTo(3000).filter((n) => n % 2 === 0));
});

test('I6: a key whose event fails for long waits, parked; the others go on', async () => {
  const stream = await filled(1000, keyOf);
  const ending = new AbortController();
  const done: number[] = [];
  const group = stream.group('g', { ...KEYED, backoff: { initialMs: 86_400_000, maxMs: 86_400_000 } });
  const consuming = group.consume(
    async ({ data }) => {
      if (data === 1) throw new Error('for long');
      done.push(data);
      return Promise.resolve();
    },
    { signal: ending.signal },
  );
  const others = upTo(1000).filter((n) => keyOf(n) !== keyOf(1));
  await until(() => done.length === others.length);
  await until(async () => (await group.stats()).inFlight === 0);
  ending.abort();
  await consuming;
  expect(done.toSorted((a, b) => a - b)).toEqual(others);
  expect(await group.stats()).toMatchObject({ lag: 1000 - others.length, retries: 1 });
});

test('events without a key are in no order with any other', async () => {
  const stream = await filled(200, () => undefined);
  const ending = new AbortController();
  const done = new Set<number>();
  const consuming = stream.group('g', KEYED).consume(
    async ({ data }, { attempt }) => {
      if (data === 1 && attempt === 1) throw new Error('not yet');
      done.add(data);
      return Promise.resolve();
    },
    { concurrency: 3, signal: ending.signal },
  );
  await until(() => done.size === 200);
  ending.abort();
  await consuming;
});

test('I6: a partition is with one lease at a time', async () => {
  const stream = await filled(40, () => 'one key');
  const group = stream.group('g', KEYED);
  const lease = await group.claim({ max: 3 });
  expect(lease?.events.map(({ data }) => data)).toEqual([1, 2, 3]);
  expect(await group.claim()).toBeNull();
  await lease?.ack({ failed: [{ offset: 2n, error: 'x', retryAt: new Date(Date.now() + 3_600_000) }] });
  expect(await group.claim()).toBeNull(); // 4 and the others wait for 2
  expect(await group.stats()).toMatchObject({ lag: 38 });
});

test('I6: what was acknowledged in a transaction that did not commit is not overtaken either', async () => {
  const stream = await filled(6, () => 'one key');
  const ending = new AbortController();
  const handled: number[] = [];
  const group = stream.group('g', KEYED); // whichever call comes first makes it
  const consuming = group.consume(
    async ({ data }, { attempt, ack }) => {
      handled.push(data);
      await using client = await openClient(db.connectionString);
      await client.query('begin');
      await ack({ tx: client });
      await client.query(data % 2 === 1 && attempt === 1 ? 'rollback' : 'commit');
    },
    { concurrency: 2, signal: ending.signal },
  );
  await until(async () => (await group.stats()).lag === 0);
  ending.abort();
  await consuming;
  expect(handled).toEqual([1, 1, 2, 3, 3, 4, 5, 5, 6]);
});

test('I8: what the log lets go of while a batch is handled that then fails is counted', async () => {
  const stream = await filled(6, (n) => `key ${n}`);
  const ending = new AbortController();
  const group = stream.group('g', { ...SOON, keyed: { partitions: 1 } });
  const consuming = group.consumeBatch(
    async (events) => {
      expect(events).toHaveLength(6);
      await stream.trim({ before: 5n });
      ending.abort();
      await until(async () => {
        const { rows } = await db.query('select (sluice.purge_events()).more');
        return rows[0]?.['more'] === false;
      });
      throw new Error('too late for four of them');
    },
    { signal: ending.signal },
  );
  await consuming;
  expect(await group.stats()).toMatchObject({ lag: 2, retries: 2, missed: 4 });
});

test('I6: a member that comes gets its share while there is more to do than all get through, and what one leaves is taken', async () => {
  let total = 5000;
  const stream = await filled(total, (n) => `key ${n % 100}`);
  const handled = [0, 0];
  const all = (): number => handled.reduce((sum, count) => sum + count, 0);
  const endings = [new AbortController(), new AbortController()];
  const consume = async (sluice: Sluice | undefined, member: 0 | 1): Promise<void> =>
    sluice
      ?.stream<number>(stream.name)
      .group('g', KEYED)
      .consume(
        async () => {
          handled[member] = (handled[member] ?? 0) + 1;
          await new Promise(setImmediate);
        },
        { signal: endings[member]?.signal, concurrency: 2, maxBatch: 100 },
      );
  const first = consume(here, 0);
  await until(() => (handled[0] ?? 0) > 200);
  const second = consume(there, 1);
  await until(async () => {
    // There always is more: what the second is handed is its share, not what was left.
    while (total - all() < 4000) {
      await stream.appendMany(upTo(1000).map((n) => ({ data: n, key: `key ${n % 100}` })));
      total += 1000;
    }
    return (handled[1] ?? 0) > 200;
  });
  endings[0]?.abort();
  await first;
  await until(async () => (await stream.group('g').stats()).lag === 0);
  endings[1]?.abort();
  await second;
  expect(all()).toBe(total);
});

test('interleaving 28: one read deals the events out to all partitions', async () => {
  const stream = await filled(400, (n) => `key ${n % 50}`);
  const group = stream.group('g', { keyed: { partitions: 16 } });
  const lease = await group.claim({ max: 1 });
  expect(lease?.events).toHaveLength(1);
  expect(await group.stats()).toMatchObject({ cursor: 400n, lag: 400 });
  const { rows } = await db.query<{ pieces: number; partitions: number }>(
    `select count(*)::int as pieces, count(distinct p.partition)::int as partitions from sluice.pieces p
     join sluice.groups g on g.id = p.group_id join sluice.streams s on s.id = g.stream_id where s.name = $1`,
    [stream.name],
  );
  expect(rows[0]?.partitions).toBeGreaterThan(10);
  expect(rows[0]?.pieces).toBe(rows[0]?.partitions);
});
