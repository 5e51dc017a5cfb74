// Guards I1 to I3 across pg_dump and restore into a new cluster, with writers at work while the dump is taken: what was
// committed before it is there once, what was published and not moved yet is delivered there once, offsets stay dense,
// and cursors go on, or are told that their events are not in the dump.
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { connect, migrate } from 'sluice';
import { startPostgres } from 'sluice/embedded';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { arrived, assertSound, quick, settle } from '../support/chaos.ts';
import { requireDumpPrograms } from '../support/dump-programs.ts';
import { fast, makeDataFolder, removeFolder } from '../support/embedded-server.ts';
import type { History, Transaction } from '../support/history.ts';
import { lossyPool } from '../support/lossy-pool.ts';
import { pendingIn } from '../support/log-sql.ts';
import { Reader } from '../support/readers.ts';
import { withSeed } from '../support/seed.ts';
import { sluiceDesign, Writers } from '../support/writers.ts';

const run = promisify(execFile);
let folder: string;
beforeAll(() => {
  folder = makeDataFolder();
});
afterAll(() => removeFolder(folder));

/** What was under way while the dump was taken may be in it or not, but whole, and in its order. */
const asOf = (begun: number, transactions: readonly Transaction[]): Transaction[] =>
  transactions.map((transaction) => {
    const { outcome, acknowledgedAt = Infinity } = transaction;
    return outcome === 'ok' && acknowledgedAt > begun ? { ...transaction, outcome: 'unknown' } : transaction;
  });

test('a dump taken under writers, restored into a new cluster', { timeout: 180_000 }, (context) => {
  const { dump, restore, server } = requireDumpPrograms(context);
  return withSeed(async (seed) => {
    await using old = await startPostgres({ ...fast, binaries: server });
    await using fresh = await startPostgres({ ...fast, binaries: server });
    await migrate({ connectionString: old.connectionString });
    const pool = lossyPool(old.connectionString);
    const streams = ['a', 'b'];
    const file = join(folder, 'dump');
    // Nobody moves events here but appends, so what else is published is pending in the dump.
    const still = { relay: false, fallbackPollMs: 600_000 };
    await using source = await connect({ connectionString: old.connectionString, ...still });
    const writers = new Writers({ seed, designs: [sluiceDesign(source)], pool, streams, writers: 8 });
    await writers.run(20);
    await source.createStream('waiting');
    await source.stream('known').append('before');

    for (let n = 1; n <= 50; n += 1) await pool.query(`select sluice.publish('waiting', $1)`, [String(n)]);
    expect(await pendingIn(pool, 'waiting')).toBe(50);
    const known = (await source.stream('known').read()).cursor;
    const begun = performance.now();
    const writing = writers.run(30);
    await run(dump, ['--format=custom', `--file=${file}`, old.connectionString]);
    await writing;
    const lost = (await source.stream('known').append('after')).cursor;
    await pool.end();

    await run(restore, ['--exit-on-error', `--dbname=${fresh.connectionString}`, file]);
    const restored = lossyPool(fresh.connectionString);
    expect(await pendingIn(restored, 'waiting')).toBe(50);
    await using sluice = await connect({ connectionString: fresh.connectionString, ...quick });
    const readers = [...streams, 'waiting'].map(
      (stream) => new Reader({ name: 'restored', stream, sluice: () => sluice }),
    );
    await arrived({ pool: restored, readers });
    const waiting = (await sluice.stream<number>('waiting').read()).events;
    expect(waiting.map(({ offset, data }) => [Number(offset), data])).toEqual(
      Array.from({ length: 50 }, (_, index) => [index + 1, index + 1]),
    );
    expect((await sluice.stream('known').read({ after: known })).events).toEqual([]);
    await sluice.stream('known').append('instead');
    expect((await sluice.stream('known').read({ after: known })).events).toMatchObject([
      { offset: 2n, data: 'instead' },
    ]);
    await expect(sluice.stream('known').read({ after: lost })).rejects.toMatchObject({
      code: 'cursor_reset',
    });

    const before = asOf(begun, writers.transactions);
    const history: History = await settle({ pool: restored, sluice, writers, readers: readers.slice(0, 2) });
    assertSound({ ...history, transactions: before });
    expect(before.filter(({ outcome }) => outcome === 'ok').length).toBeGreaterThan(80);

    // The new cluster's transactions have numbers that the old one's had: they are told apart, and writing goes on.
    const more = new Writers({
      seed: seed + 1,
      designs: [sluiceDesign(sluice)],
      pool: restored,
      streams: ['c', 'd'],
      writers: 8,
    });
    const late = more.streams.map((stream) => new Reader({ name: 'later', stream, sluice: () => sluice }));
    await more.run(20);
    await arrived({ pool: restored, readers: late });
    assertSound(await settle({ pool: restored, sluice, writers: more, readers: late }));
    await readers[2]!.stop();
    await restored.end();
  });
});
