// Guards the same promise as history.test.ts for minutes, with several processes and any faults at once: each round draws
// which ones, a quarter of the rounds is quiet. After every round all that was committed must have arrived everywhere.
import { Pool } from 'pg';
import { connect, type Sluice } from 'sluice';
import { expect, test } from 'vitest';
import { arrived, assertSound, quick, settle, watchHeads } from '../support/chaos.ts';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { DeafProxy, targetOf, through } from '../support/deaf-proxy.ts';
import { killBackends, rotateOutbox, runPasses } from '../support/faults.ts';
import { createProxy, type Proxy } from '../support/proxy.ts';
import { Reader } from '../support/readers.ts';
import { randomFrom, withSeed, type Random } from '../support/seed.ts';
import { RemoteReader, SluiceProcess } from '../support/sluice-process.ts';
import { sluiceDesign, Writers } from '../support/writers.ts';

const db = useDatabase({ allowOpenSessions: true });
const streams = ['a', 'b', 'c', 'd'];
const rounds = 10;
const transactionsPerRound = 200;

interface Stage {
  readonly random: Random;
  /** For faults alone: what they wait on must not take connections from anybody else. */
  readonly pool: Pool;
  readonly proxy: Proxy;
  readonly deaf: DeafProxy;
  readonly processes: { process: SluiceProcess; readonly readers: readonly RemoteReader[] }[];
}

const pause = async ({ pool, random }: Stage, mostSeconds: number): Promise<void> => {
  await pool.query('select pg_sleep($1)', [random.next() * mostSeconds]);
};

const startProcess = (): Promise<SluiceProcess> =>
  SluiceProcess.start({ connectionString: db.connectionString, ...quick });

/** Each goes on until the signal, and then leaves everything as it found it. */
const faults: Record<string, (stage: Stage, signal: AbortSignal) => Promise<void>> = {
  'backends killed': async ({ pool, random }, signal) => {
    const applications = ['chaos writer', 'sluice', 'sluice listener'];
    await killBackends(pool, random, { applications, signal });
  },
  'connections cut': async (stage, signal) => {
    while (!signal.aborted) {
      await pause(stage, 1);
      stage.proxy.cut();
    }
  },
  'black hole': async (stage, signal) => {
    while (!signal.aborted) {
      stage.proxy.pause();
      await pause(stage, 4);
      stage.proxy.resume();
      await pause(stage, 1);
    }
  },
  'notifications dropped': async (stage, signal) => {
    stage.deaf.deaf = true;
    while (!signal.aborted) await pause(stage, 0.2);
    stage.deaf.deaf = false;
  },
  'processes killed': async (stage, signal) => {
    while (!signal.aborted) {
      await pause(stage, 2);
      const place = stage.random.pick(stage.processes);
      await place.process.kill();
      place.process = await startProcess();
      for (const reader of place.readers) place.process.follow(reader);
    }
  },
  'processes stopped': async (stage, signal) => {
    while (!signal.aborted) {
      const { process } = stage.random.pick(stage.processes);
      process.stop();
      await pause(stage, 4);
      process.resume();
      await pause(stage, 1);
    }
  },
  'outbox rotated': async ({ pool }, signal) => {
    await rotateOutbox(pool, signal);
  },
  'small passes': async ({ pool, random }, signal) => {
    await runPasses(pool, random, signal);
  },
  'transactions held open': async (stage, signal) => {
    await using holder = await openClient(db.connectionString);
    await using appender = await openClient(db.connectionString);
    await using snapshot = await openClient(db.connectionString);
    while (!signal.aborted) {
      await holder.query(`begin; select sluice.publish('elsewhere', '0')`);
      await appender.query(`begin; select sluice.append('held', '0')`);
      await snapshot.query('begin isolation level repeatable read; select pg_current_xact_id()');
      await pause(stage, 2);
      for (const client of [holder, appender, snapshot]) await client.query('commit');
    }
  },
};

const drawn = (random: Random): string[] =>
  random.chance(0.25) ? [] : Object.keys(faults).filter(() => random.chance(0.4));

/** For every stream: one from the start, one that comes and goes, in each of the processes here. */
const audience = (random: Random, sluices: readonly Sluice[]): Reader[] =>
  streams.flatMap((stream) => [
    ...sluices.map((sluice, index) => new Reader({ name: `here ${index}`, stream, sluice: () => sluice })),
    new Reader({ name: 'restless', stream, sluice: () => random.pick(sluices), restless: random }),
  ]);

test('I1 I2 I3 I4: for minutes, under any faults at once', async () => {
  await withSeed(async (seed) => {
    const random = randomFrom(seed);
    using proxy = await createProxy(targetOf(db.connectionString));
    using deaf = await new DeafProxy(targetOf(db.connectionString)).listen();
    const pool = new Pool({ connectionString: db.connectionString, max: 20 });
    const fragile = new Pool({
      connectionString: through(proxy, db.connectionString),
      max: 16,
      application_name: 'chaos writer',
    });
    fragile.on('connect', (client) => client.on('error', () => {}));
    fragile.on('error', () => {});
    await using cut = await connect({ connectionString: through(proxy, db.connectionString), ...quick });
    await using hearsLittle = await connect({
      connectionString: db.connectionString,
      listenConnectionString: through(deaf, db.connectionString),
      ...quick,
    });
    const processes = await Promise.all(
      [0, 1, 2].map(async (index) => {
        const process = await startProcess();
        const readers = streams.map((stream) => new RemoteReader(`process ${index}`, stream));
        for (const reader of readers) process.follow(reader);
        return { process, readers };
      }),
    );
    const stage: Stage = { random, pool, proxy, deaf, processes };
    const here = audience(randomFrom(seed + 1), [cut, hearsLittle]);
    const readers = [...here, ...processes.flatMap((each) => each.readers)];
    const designs = [cut, hearsLittle].map(sluiceDesign);
    const writers = new Writers({ seed, designs, pool: fragile, streams, lossy: true });
    const watching = new AbortController();
    const heads = watchHeads(db.pool, streams, watching.signal);
    try {
      for (let round = 0; round < rounds; round += 1) {
        const names = drawn(random);
        const over = new AbortController();
        const running = Promise.all(names.map((name) => faults[name]!(stage, over.signal)));
        try {
          await writers.run(transactionsPerRound);
        } finally {
          over.abort();
          await running;
        }
        await arrived({ pool: db.pool, readers }).catch((error: unknown) => {
          throw new Error(`after round ${round} (${names.join(', ')})`, { cause: error });
        });
      }
      watching.abort();
      assertSound(await settle({ pool: db.pool, sluice: hearsLittle, writers, readers, heads: await heads }));
      expect(new Set(writers.transactions.map(({ outcome }) => outcome))).toContain('unknown');
      await Promise.all(processes.map(({ process }) => process.close()));
    } finally {
      watching.abort();
      await heads;
      await Promise.all(processes.map(({ process }) => process.kill()));
      await Promise.all([pool.end(), fragile.end()]);
    }
  });
});
