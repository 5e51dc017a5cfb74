// Guards the promise of groups (I5, I6): whatever happens to consumers, every group handles every event; once in
// effect, and in order per key, where handlers acknowledge in their own transaction. Consumers are processes that are
// killed, stopped and cut off; the judge is test/support/group-history.ts, and test/chaos/naive-groups.test.ts shows
// that it sees what a plausible design does wrong.
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { connect, type GroupOptions } from 'sluice';
import { beforeAll, expect, test } from 'vitest';
import { quick } from '../support/chaos.ts';
import { ConsumerProcess, type Settings } from '../support/consumer-process.ts';
import { useDatabase } from '../support/database.ts';
import { DeafProxy, targetOf, through } from '../support/deaf-proxy.ts';
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

const SOON = { backoff: { initialMs: 1, maxMs: 40 } };
const settingsOf = (stream: string, group: string, more: Partial<Settings> = {}): Settings => ({
  connect: { connectionString: db.connectionString, ...quick },
  stream,
  group,
  transactional: true,
  seed: 1,
  ...more,
});

test(
  'I5 I6: consumers of three groups are killed, stopped and cut off while events come in',
  { timeout: 180_000 },
  async () => {
    await withSeed(async (seed) => {
      const random = randomFrom(seed);
      const leaseMs = 800;
      await db.query(`select sluice.create_stream('work')`);
      const options = { ...SOON, maxAttempts: 1000 }; // nothing here fails for ever
      const consume = { leaseMs, concurrency: 4 };
      const common = { options, consume, seed, failing: 0.15 };
      const plain = settingsOf('work', 'plain', { ...common, transactional: false });
      const once = settingsOf('work', 'once', common);
      const keyed = settingsOf('work', 'keyed', {
        ...common,
        options: { ...options, keyed: { partitions: 8 } },
      });
      await using consumers = new Consumers([plain, plain, once, once, keyed, keyed]);
      await consumers.ready();
      const over = new AbortController();
      const shared = watchShared(db.pool, over.signal);
      const faults = disturb(db.pool, { consumers, random, leaseMs, times: 4 });
      await write(db.pool, { stream: 'work', random, count: 400, keys: 20 });
      await faults;
      await handled(db.pool, { stream: 'work', groups: 3 });
      over.abort();
      const groups = [
        { name: 'plain', promise: 'at least once', ordered: false },
        { name: 'once', promise: 'exactly once', ordered: false },
        { name: 'keyed', promise: 'exactly once', ordered: true },
      ] as const;
      assertHandled(await groupHistory(db.pool, { stream: 'work', groups, shared: await shared }));
      await consumers.close();
    });
  },
);

test(
  'I5: a consumer stopped past its lease is fenced: its acknowledgement is refused, its effects are undone',
  { timeout: 120_000 },
  async () => {
    await db.query(`select sluice.create_stream('fenced')`);
    const consume = { leaseMs: 600 };
    const stale = new ConsumerProcess(settingsOf('fenced', 'fenced', { options: SOON, consume, hold: 3 }));
    await using _stale = stale;
    await stale.says('ready');
    await db.query(
      `select sluice.append('fenced', '{}', p_key => k) from unnest(array['a', 'b', 'c', 'd']) k`,
    );
    await stale.says('holding'); // its effect is written, and not committed
    stale.stop();
    await using fresh = new ConsumerProcess(settingsOf('fenced', 'fenced', { options: SOON, consume }));
    await handled(db.pool, { stream: 'fenced', groups: 1 });
    stale.resume();
    stale.go();
    expect(await stale.says('refused')).toEqual({ refused: 'lease_lost', offset: '3' });
    const groups = [{ name: 'fenced', promise: 'exactly once', ordered: true }] as const;
    assertHandled(await groupHistory(db.pool, { stream: 'fenced', groups, shared: [] }));
    const { rows } = await db.query(`select attempt from effects where grp = 'fenced' and "offset" = 3`);
    expect(rows).toEqual([{ attempt: 2 }]);
    // It goes on as a consumer like any other.
    await fresh.close();
    await db.query(`select sluice.append('fenced', '{}')`);
    await handled(db.pool, { stream: 'fenced', groups: 1 });
    await stale.close();
  },
);

test.each<[string, GroupOptions]>([
  ['poisoned', {}],
  ['poisoned keys', { keyed: { partitions: 4 } }],
])(
  'I5: an event that kills whoever handles it is given up, and none of its neighbours: %s',
  { timeout: 180_000 },
  async (name, kind) => {
    await db.query('select sluice.create_stream($1)', [name]);
    await db.query(
      `select sluice.append($1, '{}', p_key => 'key ' || n % 10) from generate_series(1, 100) n`,
      [name],
    );
    const options = { ...SOON, ...kind, maxAttempts: 3 };
    const settings = settingsOf(name, name, {
      options,
      consume: { leaseMs: 500, concurrency: 4 },
      transactional: false,
      poison: 50,
    });
    await using consumers = new Consumers([settings, settings]);
    let deaths = 0;
    const isHandled = new AbortController();
    const done = handled(db.pool, { stream: name, groups: 1 }).finally(() => isHandled.abort());
    await until(
      () => {
        deaths += consumers.revive();
        return isHandled.signal.aborted;
      },
      { deadlineMs: 120_000 },
    );
    await done;
    const { rows } = await db.query(
      `select d."offset"::integer, d.error from sluice.dead_letters d join sluice.groups g on g.id = d.group_id where g.name = $1`,
      [name],
    );
    expect(rows).toEqual([{ offset: 50, error: expect.stringContaining('the lease expired') }]);
    const effects = await db.query(
      `select distinct "offset"::integer from effects where grp = $1 order by 1`,
      [name],
    );
    expect(effects.rows.map(({ offset }) => offset)).toEqual(
      Array.from({ length: 100 }, (_, n) => n + 1).filter((n) => n !== 50),
    );
    expect(deaths).toBeGreaterThanOrEqual(3);
    await consumers.close();
  },
);

test(
  'I4 I5: with every notification dropped, what comes and what is due again is found by polling',
  { timeout: 120_000 },
  async () => {
    using proxy = await new DeafProxy(targetOf(db.connectionString)).listen();
    const listenConnectionString = through(proxy, db.connectionString);
    await using deaf = await connect({
      connectionString: db.connectionString,
      listenConnectionString,
      ...quick,
      relay: false,
    });
    await using writer = await connect({ connectionString: db.connectionString, ...quick });
    proxy.deaf = true;
    await writer.createStream('unheard');
    const claims: string[] = [];
    const onClaim = (message: unknown): void => void claims.push((message as { group: string }).group);
    subscribe('sluice:group.claimed', onClaim);
    const ending = new AbortController();
    const handledAt = new Map<number, number[]>();
    const consuming = deaf
      .stream<number>('unheard')
      .group('unheard', SOON)
      .consume(
        async ({ data }, { attempt }) => {
          handledAt.set(data, [...(handledAt.get(data) ?? []), claims.length]);
          if (attempt === 1 && data % 3 === 0) throw new Error('again');
          return Promise.resolve();
        },
        { signal: ending.signal },
      );
    await until(() => claims.length > 0);
    for (let n = 1; n <= 12; n += 1) {
      if (n % 2 === 0) await writer.stream('unheard').append(n);
      else await writer.stream('unheard').publish(n);
      const before = claims.length;
      const times = n % 3 === 0 ? 2 : 1;
      await until(() => handledAt.get(n)?.length === times);
      // Claims are what polling is made of: the one that was under way, and the next one. (The relay moves what is published.)
      if (n % 2 === 0) expect((handledAt.get(n)?.[0] ?? 0) - before).toBeLessThanOrEqual(2);
    }
    ending.abort();
    await consuming;
    unsubscribe('sluice:group.claimed', onClaim);
    expect(proxy.dropped).toBeGreaterThan(0);
    expect([...handledAt.keys()]).toHaveLength(12);
  },
);
