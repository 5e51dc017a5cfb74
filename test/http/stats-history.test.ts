// Guards the history of a handler's counts: what its intervals say adds up to what happened, to the last one at its end;
// a write that fails harms no delivery, and is made up for once; what is kept is bounded in rows and in time (I7).
import { Pool } from 'pg';
import { connect, type ConnectOptions, type Sluice } from 'sluice';
import type { HandlerOptions, StatsHistoryQuery, StatsInterval } from 'sluice/http';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { serve, type Serving } from '../support/serve.ts';
import { openSse, type SseClient } from '../support/sse.ts';

const db = useDatabase();
const NEVER = 2 ** 31 - 1;
let sluice: Sluice;

beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString, fallbackPollMs: 100 });
});
afterAll(() => sluice.close());
beforeEach(() => db.query('truncate sluice.stats_history'));

let names = 0;
const newStream = async (): Promise<string> => {
  const name = `kept ${(names += 1)}`;
  await sluice.createStream(name);
  return name;
};
const keeping = (statsHistory: HandlerOptions['statsHistory'], at = sluice): Promise<Serving> =>
  serve(at, { statsHistory });
const opened = async (url: string): Promise<SseClient> => {
  const client = await openSse(url);
  await client.until(({ lastEventId }) => lastEventId !== '');
  return client;
};
const history = async (serving: Serving, query?: StatsHistoryQuery): Promise<StatsInterval[]> => {
  const rows: StatsInterval[] = [];
  for await (const row of serving.handler.statsHistory(query)) rows.push(row);
  return rows;
};
const total = (rows: readonly StatsInterval[], count: (row: StatsInterval) => number): number =>
  rows.reduce((sum, row) => sum + count(row), 0);
const sumOf = (counts: Readonly<Record<string, number>> | null): number =>
  Object.values(counts ?? {}).reduce((sum, count) => sum + count, 0);
interface Recorded {
  readonly instance: string;
  readonly sequence: number;
}
const nextRecorded = (who: string): Promise<Recorded> =>
  nextMessage<Recorded>('sluice:stats.recorded', ({ instance }) => instance === who);

describe('what is kept', () => {
  test('the last interval, when the handler is closed: by stream and in all', async () => {
    const name = await newStream();
    const gone = await newStream();
    await sluice.stream(name).appendMany([{ data: 1 }, { data: 2 }]);
    const serving = await keeping({ intervalMs: NEVER, instance: 'web-1' });
    const clients = [await opened(serving.url(name, 'after=start')), await opened(serving.url(name))];
    const left = await opened(serving.url(gone));
    left.close();
    await until(() => serving.handler.stats().connections === 2);
    expect((await fetch(serving.url('unknown'))).status).toBe(404);
    await sluice.stream(name).append('live');
    await clients[0]!.received(3);
    await clients[1]!.received(1);
    const before = serving.handler.stats();
    await serving[Symbol.asyncDispose]();
    const rows = await history(serving);
    const whole = { instance: 'web-1', sequence: 1, run: rows[0]?.run, at: rows[0]?.at };
    expect(rows).toEqual([
      expect.objectContaining({
        ...whole,
        stream: null,
        connections: 0,
        opened: 3,
        evicted: 0,
        events: 4,
        bytes: before.bytes,
        liveEvents: 1,
        liveDeliveries: 2,
        fanOut: 2,
        ended: { client: 1, shutdown: 2 },
        refused: { 404: 1 },
        leftOut: 0,
      }),
      expect.objectContaining({
        ...whole,
        stream: name,
        connections: 0,
        opened: 2,
        events: 4,
        bytes: before.bytes,
        liveEvents: 1,
        liveDeliveries: 2,
        ended: null,
        refused: null,
        leftOut: null,
      }),
      expect.objectContaining({ ...whole, stream: gone, opened: 1, events: 0, fanOut: null }),
    ]);
    expect(rows[1]?.replayEvents).toEqual({
      count: 2,
      sum: 2,
      buckets: [
        { le: 0, count: 1 },
        { le: 10, count: 2 },
      ],
    });
    expect(rows[1]?.latencyMs.count).toBe(2);
    expect(rows[1]?.latencyMs.sum).toBeCloseTo(before.latencyMs.sum);
    expect(rows[0]!.spanMs).toBeGreaterThan(0);
  });

  test('interval by interval, which add up to all that was counted', async () => {
    const [a, b] = [await newStream(), await newStream()];
    const serving = await keeping({ intervalMs: 5, instance: 'busy' });
    for (let round = 1; round <= 5; round += 1) {
      const both = await opened(serving.url(a, `stream=${encodeURIComponent(b)}`));
      await sluice.stream(a).append(round);
      await sluice.stream(b).appendMany([{ data: round }, { data: round }]);
      await both.received(3);
      both.close();
      await nextRecorded('busy');
    }
    await serving[Symbol.asyncDispose]();
    const stats = serving.handler.stats();
    const all = await history(serving, { stream: null });
    expect(all.map(({ sequence }) => sequence)).toEqual(all.map((_, index) => index + 1));
    expect(all.length).toBeGreaterThan(4);
    expect({
      opened: total(all, (row) => row.opened),
      events: total(all, (row) => row.events),
      bytes: total(all, (row) => row.bytes),
      ended: total(all, (row) => sumOf(row.ended)),
      latency: total(all, (row) => row.latencyMs.count),
    }).toEqual({
      opened: 5,
      events: 15,
      bytes: stats.bytes,
      ended: 5,
      latency: stats.latencyMs.count,
    });
    expect(total(await history(serving, { stream: a }), (row) => row.events)).toBe(5);
    expect(total(await history(serving, { stream: b }), (row) => row.events)).toBe(10);
    for (const [index, { at }] of all.entries()) {
      if (index > 0) expect(at.getTime()).toBeGreaterThanOrEqual(all[index - 1]!.at.getTime());
    }
  });

  test('I7: the busiest streams, and how many there were beside', async () => {
    const serving = await keeping({ intervalMs: NEVER, maxStreams: 2 });
    const made = [await newStream(), await newStream(), await newStream(), await newStream()];
    for (const [index, name] of made.entries()) {
      await sluice.stream(name).appendMany(Array.from({ length: index + 1 }, (_, data) => ({ data })));
      const client = await opened(serving.url(name, 'after=start'));
      await client.received(index + 1);
    }
    await serving[Symbol.asyncDispose]();
    const rows = await history(serving);
    expect(rows.map(({ stream, events, leftOut }) => [stream, events, leftOut])).toEqual([
      [null, 10, 2],
      [made[3], 4, null],
      [made[2], 3, null],
    ]);
  });

  test('nothing, unless that is asked for', async () => {
    for (const statsHistory of [undefined, false]) {
      await using serving = await keeping(statsHistory);
      await serving.handler.close();
      expect(await history(serving)).toEqual([]);
    }
  });

  test('of every process under its name, and of each start apart', async () => {
    await using there = await connect({ connectionString: db.connectionString });
    for (const [at, instance] of [
      [sluice, 'web-1'],
      [there, 'web-2'],
      [there, 'web-2'],
    ] as const) {
      const serving = await keeping({ intervalMs: NEVER, instance }, at);
      await serving[Symbol.asyncDispose]();
    }
    await using serving = await keeping(true);
    const rows = await history(serving);
    expect(rows.map(({ instance }) => instance)).toEqual(['web-1', 'web-2', 'web-2']);
    expect(new Set(rows.map(({ run }) => run)).size).toBe(3);
    await serving.handler.close();
    expect((await history(serving)).at(-1)?.instance).toMatch(/^.+:\d+$/);
  });
});

describe('reading', () => {
  const fill = async (count: number): Promise<void> => {
    await db.query(
      `insert into sluice.stats_history (at, span_ms, expires_at, instance, run, sequence, stream, connections, opened,
         evicted, events, bytes, live_events, live_deliveries, replay_events, replay_events_sum, latency_ms,
         latency_ms_sum, ended, refused, left_out)
       select timestamptz '2026-01-01Z' + (n / 2) * interval '1 microsecond', 1, 'infinity', 'filled', gen_random_uuid(),
         n, case when n % 2 = 0 then 'even' end, 0, 0, 0, n, 0, 0, 0, '{}', 0, '{"2.5": 1, "Infinity": 2}', 0,
         case when n % 2 = 1 then '{}'::jsonb end, case when n % 2 = 1 then '{}'::jsonb end, case when n % 2 = 1 then 0 end
       from generate_series(1, $1) n`,
      [count],
    );
  };

  test('goes over any number of pages, oldest first, of times closer than a Date can tell', async () => {
    await fill(1501);
    await using serving = await serve(sluice);
    const rows = await history(serving);
    expect(rows.map(({ events }) => events)).toEqual(Array.from({ length: 1501 }, (_, index) => index + 1));
    expect(await history(serving, { stream: 'even' })).toHaveLength(750);
    expect(await history(serving, { stream: null })).toHaveLength(751);
    expect(await history(serving, { stream: 'odd' })).toEqual([]);
    expect(rows[0]?.latencyMs.buckets).toEqual([
      { le: 2.5, count: 1 },
      { le: Infinity, count: 3 },
    ]);
  });

  test('begins at a time, and ends when it is left or aborted', async () => {
    await fill(3);
    await using serving = await serve(sluice);
    expect(await history(serving, { since: new Date('2026-01-01T00:00:00Z') })).toHaveLength(3);
    expect(await history(serving, { since: new Date('2026-01-01T00:00:00.001Z') })).toEqual([]);
    const controller = new AbortController();
    const seen: number[] = [];
    for await (const { events } of serving.handler.statsHistory({ signal: controller.signal })) {
      seen.push(events);
      controller.abort();
    }
    expect(seen).toEqual([1]);
    expect(await history(serving, { signal: controller.signal })).toEqual([]);
  });
});

describe('a write that fails', () => {
  test('is reported, harms no delivery, and nothing of it is lost', async () => {
    const name = await newStream();
    const logged: string[] = [];
    const log = (_: object, message: string): unknown => logged.push(message);
    const logger = { debug: log, info: log, warn: log, error: log };
    await using own = await connect({ connectionString: db.connectionString, logger });
    const serving = await keeping({ intervalMs: 10, instance: 'unlucky' }, own);
    await nextRecorded('unlucky');
    await db.query('alter table sluice.stats_history rename to away');
    try {
      const failed = nextMessage<{ where: string }>(
        'sluice:background.failed',
        ({ where }) => where === 'stats history',
      );
      const client = await opened(serving.url(name));
      await sluice.stream(name).append(1);
      await client.received(1);
      await failed;
      await sluice.stream(name).append(2);
      await client.received(2);
    } finally {
      await db.query('alter table sluice.away rename to stats_history');
    }
    await nextRecorded('unlucky');
    await serving[Symbol.asyncDispose]();
    const rows = await history(serving, { stream: null });
    expect(total(rows, ({ events }) => events)).toBe(2);
    expect(rows.map(({ sequence }) => sequence)).toEqual(rows.map((_, index) => index + 1));
    expect(logged).toContain('the history of figures could not be written; it is tried again');
  });

  test('after which nobody knows whether it was made is there once', async () => {
    const name = await newStream();
    const pool = new Pool({ connectionString: db.connectionString, max: 4 });
    let lost = 0;
    const unsure: ConnectOptions['pool'] = {
      connect: () => pool.connect(),
      query: async (config) => {
        const answer = await pool.query(config);
        if (!config.text.includes('record_stats') || lost === 3) return answer;
        lost += 1;
        throw Object.assign(new Error('the connection was lost'), { code: 'ECONNRESET' });
      },
    };
    const own = await connect({ connectionString: db.connectionString, pool: unsure });
    const serving = await keeping({ intervalMs: 5, instance: 'unsure' }, own);
    const client = await opened(serving.url(name));
    await sluice.stream(name).append(1);
    await client.received(1);
    await nextRecorded('unsure');
    await serving[Symbol.asyncDispose]();
    expect(lost).toBe(3);
    const rows = await history(await serve(sluice).then(closed), { stream: name });
    expect([total(rows, ({ events }) => events), total(rows, (row) => row.opened)]).toEqual([1, 1]);
    await own.close();
    await pool.end();
  });
  const closed = async (serving: Serving): Promise<Serving> => {
    await serving[Symbol.asyncDispose]();
    return serving;
  };

  test('because the table is held keeps no handler from ending', async () => {
    await using own = await connect({ connectionString: db.connectionString });
    await using client = await openClient(db.connectionString);
    await client.query('begin');
    await client.query('lock table sluice.stats_history');
    const serving = await keeping({ intervalMs: NEVER, instance: 'held' }, own);
    await serving[Symbol.asyncDispose]();
    const written = nextRecorded('held');
    await client.query('rollback');
    await written;
  });

  test('because Sluice is closed ends quietly', async () => {
    const logged: unknown[] = [];
    const log = (details: object): unknown => logged.push(details);
    const logger = { debug: () => {}, info: () => {}, warn: log, error: log };
    const own = await connect({ connectionString: db.connectionString, logger });
    const serving = await keeping({ intervalMs: 5 }, own);
    await own.close();
    await serving[Symbol.asyncDispose]();
    expect(logged).toEqual([]);
  });
});

describe('I7: what has been kept long enough goes', () => {
  test('by itself', async () => {
    const expired = nextMessage('sluice:stats.expired');
    await using serving = await keeping({ intervalMs: 5, keepMs: 1, instance: 'brief' });
    await expired;
    await serving.handler.close();
    const left = await history(serving);
    expect(left.every(({ sequence }) => sequence > 1)).toBe(true);
  });

  test('in bounded batches, and nothing else', async () => {
    await db.query(
      `insert into sluice.stats_history (at, span_ms, expires_at, instance, run, sequence, stream, connections, opened,
         evicted, events, bytes, live_events, live_deliveries, replay_events, replay_events_sum, latency_ms, latency_ms_sum)
       select now(), 1, now() + case when n <= 7 then interval '-1 s' else interval '1 h' end, 'x', gen_random_uuid(), n,
         's', 0, 0, 0, 0, 0, 0, 0, '{}', 0, '{}', 0 from generate_series(1, 10) n`,
    );
    const batch = async (): Promise<number> =>
      Number((await db.query('select sluice.expire_stats(5) as n')).rows[0]?.['n']);
    expect([await batch(), await batch(), await batch()]).toEqual([5, 2, 0]);
    expect((await db.query('select from sluice.stats_history')).rowCount).toBe(3);
  });
});

test.each<[string, unknown, RegExp]>([
  ['intervalMs', { intervalMs: 0 }, /statsHistory\.intervalMs is 0; give a number from 1 to 2147483647/],
  ['keepMs', { keepMs: Number.NaN }, /statsHistory\.keepMs is NaN/],
  ['maxStreams', { maxStreams: 1e6 }, /statsHistory\.maxStreams is 1000000; give a number from 0 to 10000/],
  ['instance', { instance: '' }, /statsHistory\.instance must have 1 to 255 characters/],
  ['anything else', 'yes', /statsHistory must be true, or/],
])('refused: %s', async (_, statsHistory, says) => {
  await expect(keeping(statsHistory as HandlerOptions['statsHistory'])).rejects.toThrow(says);
});
