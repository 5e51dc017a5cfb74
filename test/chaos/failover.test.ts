// Guards I1 to I4 and I8 across a failover, with real clusters: a standby that had everything loses nothing; one that was
// behind takes events back, and whoever has seen those is told, on live streams and on resume, and never skips.
import { connect, type Sluice } from 'sluice';
import { describe, expect, test } from 'vitest';
import { arrived, assertSound, quick, settle } from '../support/chaos.ts';
import { targetOf, through } from '../support/deaf-proxy.ts';
import { until } from '../support/diagnostics.ts';
import { Following } from '../support/following.ts';
import { lossyPool } from '../support/lossy-pool.ts';
import { createProxy } from '../support/proxy.ts';
import { Reader } from '../support/readers.ts';
import { withSeed } from '../support/seed.ts';
import { serve } from '../support/serve.ts';
import { ServerPair } from '../support/server-pair.ts';
import { openSse } from '../support/sse.ts';
import { sluiceDesign, Writers } from '../support/writers.ts';

describe('I1–I3: a standby that is up to date', { timeout: 120_000 }, () => {
  test('the primary is killed under writers whose commits wait for the standby: nothing is lost', () =>
    withSeed(async (seed) => {
      await using pair = await ServerPair.start({ synchronous_standby_names: '*' });
      const { connectionString } = pair;
      const pool = lossyPool(connectionString);
      const streams = ['a', 'b'];
      await using first = await connect({ connectionString, ...quick });
      await using second = await connect({ connectionString, ...quick });
      const designs = [sluiceDesign(first), sluiceDesign(second)];
      const writers = new Writers({ seed, designs, pool, streams, writers: 8, lossy: true });
      const readers = [first, second].flatMap((sluice, index) =>
        streams.map((stream) => new Reader({ name: `reader ${index}`, stream, sluice: () => sluice })),
      );
      const before = writers.run(30);
      await until(() => writers.transactions.length > 60);
      await pair.killPrimary();
      await pair.takeOver();
      await before;
      await writers.run(5); // it goes on
      await arrived({ pool: pair.primary, readers });
      const history = await settle({ pool: pair.primary, sluice: first, writers, readers });
      await pool.end();
      assertSound(history);
      expect(history.transactions.filter(({ outcome }) => outcome === 'ok').length).toBeGreaterThan(100);
    }));
});

describe('I8: a standby that was behind', { timeout: 120_000 }, () => {
  const streams = ['quiet', 'busy', 'whole'] as const;
  const lost = { code: 'cursor_reset', oldest: 1n, oldestCursor: expect.any(String) };

  // quiet: has lost events, and nothing new. busy: has new events at the lost offsets and beyond. whole: lost nothing.
  test('those who saw what it never got are told, live and on resume; the others go on', async () => {
    await using pair = await ServerPair.start();
    const { connectionString } = pair;
    using proxy = await createProxy({ targetPort: targetOf(connectionString).targetPort });
    await using sluice = await connect({ connectionString: through(proxy, connectionString), ...quick });
    await using serving = await serve(sluice);
    const append = async (on: Sluice, stream: string, data: string, count: number): Promise<void> => {
      await on.stream(stream).appendMany(Array.from({ length: count }, () => ({ data })));
    };
    for (const stream of streams) await append(sluice, stream, 'old', 3);
    await pair.caughtUp();
    pair.cutReplication();
    for (const stream of ['quiet', 'busy']) await append(sluice, stream, 'lost', 2);

    const cursors = new Map<string, string>();
    const seenBefore = new Map<string, string>(); // of an event that the standby has
    for (const stream of streams) {
      cursors.set(stream, (await sluice.stream(stream).read()).cursor);
      seenBefore.set(stream, (await sluice.stream(stream).read({ limit: 2 })).cursor);
    }
    const live = await Promise.all(
      streams.map(async (stream) => {
        const following = new Following(sluice, stream, 'start');
        const sse = await openSse(serving.url(stream, 'after=start'));
        const count = stream === 'whole' ? 3 : 5;
        expect((await following.next(count)).at(-1)).toBe(stream === 'whole' ? '3 old' : '5 lost');
        await sse.received(count);
        return { stream, following, sse };
      }),
    );
    const told = Promise.allSettled(live.map(({ following }) => following.next(1)));

    proxy.refuse();
    await pair.killPrimary();
    proxy.cut();
    await pair.takeOver();
    {
      await using elsewhere = await connect({ connectionString, relay: false });
      await append(elsewhere, 'busy', 'new', 4);
      await append(elsewhere, 'whole', 'new', 1);
    }
    await proxy.accept();

    expect(await told).toEqual([
      { status: 'rejected', reason: expect.objectContaining(lost) },
      { status: 'rejected', reason: expect.objectContaining(lost) },
      { status: 'fulfilled', value: ['4 new'] },
    ]);
    const [quiet, busy, whole] = live;
    await whole!.sse.received(4);
    expect(whole!.sse.control('reset')).toEqual([]);
    await quiet!.sse.until((client) => client.offsets.length === 8);
    await busy!.sse.until((client) => client.offsets.length === 12);
    expect(quiet!.sse.offsets).toEqual([1, 2, 3, 4, 5, 1, 2, 3]);
    expect(busy!.sse.offsets).toEqual([1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 6, 7]);
    for (const { stream, sse } of [quiet!, busy!]) {
      expect(sse.control('reset')).toMatchObject([
        { stream, requested: '5', oldest: '1', resumedAt: expect.stringMatching(/-0-0$/) },
      ]);
    }

    for (const stream of ['quiet', 'busy']) {
      const after = cursors.get(stream)!;
      const error = await sluice
        .stream(stream)
        .read({ after })
        .catch((reason: unknown) => reason);
      expect(error).toMatchObject(lost);
      const resumed = new Following(sluice, stream, after);
      await expect(resumed.next(1)).rejects.toMatchObject(lost);
      const again = new Following(sluice, stream, (error as { oldestCursor: string }).oldestCursor);
      expect((await again.next(3)).at(-1)).toBe('3 old');
      await again[Symbol.asyncDispose]();
      using sse = await openSse(serving.url(stream), { lastEventId: after });
      await sse.received(3);
      expect(sse.control('reset')).toMatchObject([{ stream, requested: '5' }]);
    }
    // Whoever stands on what both histories share goes on without a break.
    for (const stream of streams) {
      const resumed = new Following(sluice, stream, seenBefore.get(stream)!);
      expect(await resumed.next(1)).toEqual(['3 old']);
      await resumed[Symbol.asyncDispose]();
    }
    for (const { following, sse } of live) {
      sse.close();
      await following[Symbol.asyncDispose]();
    }
  });
});

describe('I4: ephemerals', { timeout: 120_000 }, () => {
  test('the standby was behind by many transactions: what is broadcast afterwards arrives, and once', async () => {
    await using pair = await ServerPair.start();
    const { connectionString } = pair;
    await using sluice = await connect({ connectionString, ...quick });
    await using serving = await serve(sluice);
    await sluice.createStream('room');
    await pair.caughtUp();
    pair.cutReplication();
    using client = await openSse(serving.url('room'));
    await client.opened();
    const heard = (): unknown[] =>
      client.control('broadcast').map((each) => (each as { data: unknown }).data);
    await pair.primary.query(
      'do $$ begin for n in 1..500 loop perform pg_current_xact_id(); commit; end loop; end $$',
    );
    await sluice.stream('room').broadcast('before');
    await client.until(() => heard().length === 1);

    await pair.killPrimary();
    await pair.takeOver();
    // As users would: until one is accepted.
    for (let sent = false; !sent;) {
      sent = await sluice
        .stream('room')
        .broadcast('after')
        .then(
          () => true,
          () => false,
        );
    }
    await client.until(() => heard().length > 1);
    await sluice.stream('room').broadcast('last');
    await client.until(() => heard().at(-1) === 'last');
    expect(heard()).toEqual(['before', 'after', 'last']);
    expect(client.over).toBeUndefined();
  });
});
