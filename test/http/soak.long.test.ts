// Guards that a server process stays as it is however long clients come and go: once they have left, its memory, sockets
// and descriptors are what they were, and over the run no line through them rises (I7, I11). Ten minutes; other
// lengths by SLUICE_SOAK_MINUTES. Prints what it measured; docs/operations.md has the figures of one run.
import { connect } from 'sluice';
import { expect, test } from 'vitest';
import { allHaveLeft, churn, write, type Stage } from '../support/churn.ts';
import { useDatabase } from '../support/database.ts';
import { randomFrom, withSeed } from '../support/seed.ts';
import { SoakServer, type Held } from '../support/soak-server.ts';
import { trendOf, type Trend } from '../support/trend.ts';

const db = useDatabase();
const minutes = Number(process.env['SLUICE_SOAK_MINUTES'] ?? 10);
/** Clients at a time. */
const width = 40;
const streams = ['a', 'b', 'c', 'd'];
const roundMs = Math.max(12_000, (minutes * 60_000) / 24);
/** Of the rounds, before anything is judged: until caches, pools and windows are full. */
const warmUp = 0.25;

/** What a run may add, by its trend: what rounds differ by anyway, and what a connection may leave behind. */
const bounds = {
  heap: { noise: 2 * 2 ** 20, each: 100 },
  rss: { noise: 48 * 2 ** 20, each: 100 },
  sockets: { noise: 0.9, each: 0 },
  descriptors: { noise: 0.9, each: 0 },
} as const;
type Measure = keyof typeof bounds;
const measures = Object.keys(bounds) as Measure[];

const mb = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MB`;
const shown = (measure: Measure, value: number): string =>
  measure === 'heap' || measure === 'rss' ? mb(value) : value.toFixed(1);
const tell = (line: string): void => void process.stdout.write(`soak: ${line}\n`);

/** One stretch of comings and goings; what the process holds once all have left. */
const round = async (stage: Stage, until: number): Promise<Held> => {
  const [noMoreClients, noMoreEvents] = [new AbortController(), new AbortController()];
  const written = write(stage, () => db.query('select pg_sleep(0.02)'), noMoreEvents.signal);
  written.catch(() => noMoreClients.abort()); // told below
  const visited = churn(stage, width, noMoreClients.signal);
  const waited = (async (): Promise<void> => {
    while (performance.now() < until) await db.query('select pg_sleep(0.2)');
    noMoreClients.abort();
  })();
  try {
    await Promise.all([visited, waited]); // who is there still waits for events
  } finally {
    noMoreClients.abort();
    noMoreEvents.abort();
    await Promise.allSettled([visited, waited]);
    await written;
  }
  await allHaveLeft(stage.server, 1);
  return stage.server.sample();
};

test('I7, I11: memory, sockets and descriptors of a server are flat while clients come and go', async () => {
  await withSeed(async (seed) => {
    await using server = await SoakServer.start(db.connectionString);
    await using sluice = await connect({ connectionString: db.connectionString, relay: false });
    for (const stream of streams) {
      await sluice.createStream(stream, { maxCount: 500 });
      await sluice.stream(stream).appendMany(Array.from({ length: 100 }, (_, n) => ({ data: { n } })));
    }
    const big = 'big';
    for (let n = 0; n < 4; n += 1) {
      await sluice.stream(big).appendMany(Array.from({ length: 10 }, () => ({ data: 'x'.repeat(300_000) })));
    }
    const stage: Stage = { server, sluice, random: randomFrom(seed), streams, big };
    const samples: Held[] = [];
    const began = performance.now();
    for (let n = 1; performance.now() - began < minutes * 60_000 || samples.length < 6; n += 1) {
      const held = await round(stage, began + n * roundMs);
      samples.push(held);
      const parts = measures.map((measure) => `${measure} ${shown(measure, held[measure])}`);
      tell(`${Math.round((performance.now() - began) / 1000)} s, ${held.opened} opened, ${parts.join(', ')}`);
    }
    const judged = samples.slice(Math.floor(samples.length * warmUp));
    const last = judged.at(-1)!;
    tell(`${last.events} events to ${last.opened} connections, which ended: ${JSON.stringify(last.ended)}`);
    const trends = measures.map((measure): [Measure, Trend] => [
      measure,
      trendOf(judged.map((held) => ({ x: held.opened, y: held[measure] }))),
    ]);
    for (const [measure, { median, growth, slope }] of trends) {
      const each = measure === 'heap' || measure === 'rss' ? `, ${slope.toFixed(0)} B a connection` : '';
      tell(`${measure}: median ${shown(measure, median)}, growth ${shown(measure, growth)}${each}`);
    }
    expect(last.failures).toEqual([]);
    for (const reason of ['client', 'slow', 'lifetime', 'stream'] as const)
      expect(last.ended[reason], `ended by ${reason}`).toBeGreaterThan(0);
    const opened = last.opened - judged[0]!.opened;
    for (const [measure, { growth }] of trends) {
      const { noise, each } = bounds[measure];
      expect(growth, `${measure} grows by ${shown(measure, growth)}`).toBeLessThan(noise + each * opened);
    }
    expect(await server.close()).toBe(0);
  });
});
