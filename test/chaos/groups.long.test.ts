// Guards the promise of groups (I5, I6, I7) for minutes: as test/chaos/groups.test.ts does, with more events, batches
// and keyed batches; and that a backlog of a million events costs a consumer no memory.
import { connect } from 'sluice';
import { beforeAll, expect, test } from 'vitest';
import { quick } from '../support/chaos.ts';
import { ConsumerProcess, type Settings } from '../support/consumer-process.ts';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';
import { assertHandled } from '../support/group-history.ts';
import {
  Consumers,
  createEffects,
  disturb,
  groupHistory,
  handled,
  watchShared,
  write,
} from '../support/group-stage.ts';
import { randomFrom, withSeed } from '../support/seed.ts';

const db = useDatabase({ allowOpenSessions: true });
beforeAll(async () => createEffects(db.pool));

const rounds = 8;
const perRound = 800;
const leaseMs = 800;

const options = { backoff: { initialMs: 1, maxMs: 100 }, maxAttempts: 100_000 };
const keyed = { ...options, keyed: { partitions: 8 } };

test('I5 I6: for minutes, with handlers of every kind', { timeout: 1_200_000 }, async () => {
  await withSeed(async (seed) => {
    const random = randomFrom(seed);
    const stream = 'work';
    await db.query('select sluice.create_stream($1)', [stream]);
    const kinds: Pick<Settings, 'group' | 'options' | 'transactional' | 'handler'>[] = [
      { group: 'plain', options, transactional: false },
      { group: 'once', options, transactional: true },
      { group: 'batches', options, transactional: true, handler: 'batch' },
      { group: 'keyed', options: keyed, transactional: true },
      { group: 'keyed batches', options: keyed, transactional: true, handler: 'batch' },
    ];
    const settings = kinds.map((kind): Settings => {
      const consume = { leaseMs, concurrency: 4, maxBatch: kind.handler === 'batch' ? 10 : 1000 };
      const connect = { connectionString: db.connectionString, ...quick };
      return { ...kind, connect, stream, consume, seed, failing: 0.15 };
    });
    await using consumers = new Consumers([...settings, ...settings]);
    await consumers.ready();
    const over = new AbortController();
    const shared = watchShared(db.pool, over.signal);
    for (let round = 0; round < rounds; round += 1) {
      const faults = disturb(db.pool, { consumers, random, leaseMs, times: 12 });
      await write(db.pool, { stream, random, count: perRound, keys: 20 });
      await faults;
      await handled(db.pool, { stream, groups: kinds.length, deadlineMs: 300_000 });
      const groups = kinds.map(
        ({ group, transactional, options: { keyed } = {} }) =>
          ({
            name: group,
            promise: transactional ? 'exactly once' : 'at least once',
            ordered: keyed !== undefined,
          }) as const,
      );
      assertHandled(await groupHistory(db.pool, { stream, groups, shared: [] }));
    }
    over.abort();
    expect(await shared).toEqual([]);
    await consumers.close();
  });
});

test.each([
  ['in order', {}],
  ['keyed', { keyed: { partitions: 16 } }],
])(
  'I7: a backlog of a million events in a heap of 64 MB (%s)',
  { timeout: 1_200_000 },
  async (group, options) => {
    await using sluice = await connect({ connectionString: db.connectionString });
    const stream = sluice.stream('backlog');
    if ((await stream.info()) === null) {
      await sluice.createStream('backlog');
      const events = Array.from({ length: 10_000 }, (_, n) => ({
        data: { n, text: 'x'.repeat(100) },
        key: `key ${n}`,
      }));
      for (let times = 0; times < 100; times += 1) await stream.appendMany(events);
    }
    await using consumer = new ConsumerProcess({
      connect: { connectionString: db.connectionString },
      stream: 'backlog',
      group,
      options,
      consume: { concurrency: 16 },
      transactional: false,
      handler: 'count',
      heapMb: 64,
      seed: 1,
    });
    await until(() => !consumer.isOver && consumer.counted === 1_000_000, { deadlineMs: 900_000 });
    await consumer.close();
    expect(await stream.group(group).stats()).toMatchObject({ lag: 0, inFlight: 0, dead: 0 });
  },
);
