// Guards /metrics: closed unless somebody opens it, in a format that a strict reader takes, and true to what happened.
import { Registry } from 'prom-client';
import { Pool } from 'pg';
import { connect, type PoolLike, type Sluice } from 'sluice';
import { createHandler, type HandlerOptions } from 'sluice/http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { deferred } from '../../src/util/deferred.ts';
import { useDatabase } from '../support/database.ts';
import { targetOf, through } from '../support/deaf-proxy.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { parseExposition, type Metric } from '../support/exposition.ts';
import { killListener } from '../support/faults.ts';
import { createProxy } from '../support/proxy.ts';
import { anyone, serve, type Serving } from '../support/serve.ts';
import { openSse } from '../support/sse.ts';

const db = useDatabase();
let sluice: Sluice;

beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString, fallbackPollMs: 100, heartbeatMs: 50 });
});
afterAll(() => sluice.close());

const scrape = async ({ origin }: Serving): Promise<Map<string, Metric>> => {
  const response = await fetch(`${origin}/metrics`);
  expect(response.status).toBe(200);
  expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
  return parseExposition(await response.text());
};
/** The value of a sample, named as it stands. */
const valueOf = (metrics: Map<string, Metric>, key: string): number | undefined => {
  for (const { samples } of metrics.values()) if (samples.has(key)) return samples.get(key);
  return undefined;
};

describe('who may read it', () => {
  const statusOf = async (metrics: HandlerOptions['metrics'], init: RequestInit = {}): Promise<number> => {
    await using serving = await serve(sluice, { metrics });
    const response = await fetch(`${serving.origin}/metrics`, init);
    const body = await response.text();
    if (response.status === 404) {
      const elsewhere = await fetch(`${serving.origin}/nothing`);
      expect(body.replace('/metrics', '/nothing')).toBe(await elsewhere.text()); // as if there were none
    }
    return response.status;
  };

  test('nobody by default', async () => {
    expect(await statusOf(undefined)).toBe(404);
    expect(await statusOf(false)).toBe(404);
    expect(await statusOf(undefined, { method: 'POST' })).toBe(404);
  });

  test('anybody, or those for whom the hook says true, and nothing but true', async () => {
    expect(await statusOf(true)).toBe(200);
    expect(await statusOf(true, { method: 'HEAD' })).toBe(200);
    expect(await statusOf(true, { method: 'POST' })).toBe(405);
    const hook = async ({ headers }: Request): Promise<boolean> => headers.get('x-scraper') === 'ours';
    expect(await statusOf(hook)).toBe(404);
    expect(await statusOf(hook, { headers: { 'x-scraper': 'ours' } })).toBe(200);
    expect(await statusOf((() => ({ principal: null })) as never)).toBe(404);
    expect(await statusOf(() => Promise.reject(new Error('hook')))).toBe(500);
  });

  test('below the base path, and no word for what is neither', async () => {
    await using serving = await serve(sluice, { metrics: true, basePath: '/streams' });
    expect((await fetch(`${serving.origin}/metrics`)).status).toBe(404);
    expect((await fetch(`${serving.origin}/streams/metrics`)).status).toBe(200);
    expect(() => createHandler(sluice, { authorize: anyone, metrics: 'true' as never })).toThrow(TypeError);
  });
});

describe('what it tells', () => {
  test('all of it, before anything has happened', async () => {
    await using serving = await serve(sluice, { metrics: true });
    const metrics = await scrape(serving);
    for (const name of metrics.keys()) expect(name).toMatch(/^sluice_/);
    expect(valueOf(metrics, 'sluice_http_connections')).toBe(0);
    expect(valueOf(metrics, 'sluice_http_connections_ended_total{reason="slow"}')).toBe(0);
    expect(valueOf(metrics, 'sluice_http_delivery_latency_seconds_count')).toBe(0);
    expect(valueOf(metrics, 'sluice_http_delivery_latency_seconds_bucket{le="0.0025"}')).toBe(0);
  });

  test('deliveries, as the stats of the handler', async () => {
    await using serving = await serve(sluice, { metrics: true });
    await sluice.createStream('told');
    await sluice.stream('told').appendMany([{ data: 1 }, { data: 2 }]);
    using client = await openSse(serving.url('told', 'after=start'));
    await client.received(2);
    await sluice.stream('told').append('live');
    await client.received(3);
    expect((await fetch(serving.url('unknown'))).status).toBe(404);
    const metrics = await scrape(serving);
    const stats = serving.handler.stats();
    expect(stats).toMatchObject({ connections: 1, events: 3, liveEvents: 1, liveDeliveries: 1 });
    const told = {
      sluice_http_connections: 1,
      sluice_http_streams: 1,
      sluice_http_connections_opened_total: 1,
      'sluice_http_requests_refused_total{status="404"}': 1,
      sluice_http_delivered_events_total: 3,
      sluice_http_delivered_bytes_total: stats.bytes,
      sluice_http_live_events_total: 1,
      sluice_http_live_deliveries_total: 1,
      sluice_http_replay_events_count: 1,
      sluice_http_replay_events_sum: 2,
      'sluice_http_replay_events_bucket{le="1"}': 0,
      'sluice_http_replay_events_bucket{le="10"}': 1,
      sluice_http_delivery_latency_seconds_count: 1,
      sluice_http_delivery_latency_seconds_sum: stats.latencyMs.sum / 1000,
    };
    for (const [key, value] of Object.entries(told))
      expect([key, valueOf(metrics, key)]).toEqual([key, value]);
    client.close();
    await until(() => serving.handler.stats().connections === 0);
    const after = await scrape(serving);
    expect(valueOf(after, 'sluice_http_connections')).toBe(0);
    expect(valueOf(after, 'sluice_http_streams')).toBe(0);
    expect(valueOf(after, 'sluice_http_connections_ended_total{reason="client"}')).toBe(1);
  });

  test('what the process does: appends, passes, tails, retention, failures', async () => {
    await using serving = await serve(sluice, { metrics: true });
    await sluice.createStream('done');
    using client = await openSse(serving.url('done'));
    await client.opened();
    await sluice.stream('done').appendMany([{ data: 1 }, { data: 2 }]);
    const passed = nextMessage('sluice:relay.passed');
    await sluice.stream('done').publish('3');
    await passed;
    await client.received(3);
    const polled = nextMessage('sluice:poll.finished');
    await polled;
    const metrics = await scrape(serving);
    expect(valueOf(metrics, 'sluice_append_events_total')).toBe(2);
    expect(valueOf(metrics, 'sluice_append_duration_seconds_count')).toBe(1);
    expect(valueOf(metrics, 'sluice_relay_moved_events_total')).toBe(1);
    expect(valueOf(metrics, 'sluice_relay_pass_duration_seconds_count')).toBeGreaterThanOrEqual(1);
    expect(valueOf(metrics, 'sluice_tail_events_total')).toBe(3);
    expect(valueOf(metrics, 'sluice_poll_runs_total')).toBeGreaterThanOrEqual(1);
    expect(valueOf(metrics, 'sluice_relay_undeliverable_events_total')).toBe(0);
    const passes = [...metrics.get('sluice_relay_passes_total')!.samples.keys()];
    expect(passes.every((key) => /^sluice_relay_passes_total\{by="(relay|poll)"\}$/.test(key))).toBe(true);
  });

  test('what groups do, by stream and group', async () => {
    await using serving = await serve(sluice, { metrics: true });
    const stream = sluice.stream<string>('grouped "so"');
    await stream.appendMany(['gone', 'fine', 'bad'].map((data) => ({ data })));
    const group = stream.group('g', { maxAttempts: 2, backoff: { initialMs: 1 } });
    await group.stats();
    await stream.trim({ before: 2n });
    const died = nextMessage('sluice:group.died');
    const ending = new AbortController();
    const consuming = group.consume(
      async ({ data }) => (data === 'bad' ? Promise.reject(new Error(data)) : Promise.resolve()),
      { signal: ending.signal },
    );
    await died;
    ending.abort();
    await consuming;
    const metrics = await scrape(serving);
    const labels = '{stream="grouped \\"so\\"",group="g"}';
    const told = { events: 3, failures: 2, dead_events: 1, lost_leases: 0, missed_events: 1 };
    for (const [name, value] of Object.entries(told))
      expect([name, valueOf(metrics, `sluice_group_${name}_total${labels}`)]).toEqual([name, value]);
    expect(valueOf(metrics, `sluice_group_claims_total${labels}`)).toBeGreaterThanOrEqual(2);
  });

  test('how far groups are that are consumed here, and of no other', async () => {
    const stream = sluice.stream<number>('gauged');
    await stream.appendMany([1, 2, 3, 4, 5, 6].map((data) => ({ data })));
    await stream.group('elsewhere').stats();
    const group = stream.group('g');
    await group.stats();
    await stream.trim({ before: 2n });
    const [ending, holding] = [new AbortController(), deferred()];
    const begun = deferred();
    const consuming = group.consume(
      async () => {
        begun.resolve();
        await holding.promise;
      },
      { signal: ending.signal },
    );
    await begun.promise; // 1 was trimmed, 2 is in hand
    const gauges = async (): Promise<(number | undefined)[]> => {
      await using serving = await serve(sluice, { metrics: true }); // keeps no answer of before
      const metrics = await scrape(serving);
      expect(valueOf(metrics, 'sluice_group_paused{stream="gauged",group="elsewhere"}')).toBeUndefined();
      return ['unclaimed_events', 'unclaimed_age_seconds', 'paused'].map((name) =>
        valueOf(metrics, `sluice_group_${name}{stream="gauged",group="g"}`),
      );
    };
    expect(await gauges()).toEqual([4, expect.any(Number), 0]);
    const [, age = 0] = await gauges();
    expect(age).toBeGreaterThan(0);
    expect(age).toBeLessThan(3600);
    await group.pause();
    await group.seek('end');
    expect(await gauges()).toEqual([0, 0, 1]);
    holding.resolve();
    ending.abort();
    await consuming;
    expect(await gauges()).toEqual([undefined, undefined, undefined]);
  });

  test('where the rows of groups may not be read, it is said, and all others are told', async () => {
    await using serving = await serve(sluice, { metrics: true });
    const ending = new AbortController();
    const joined = nextMessage('sluice:group.claimed');
    const consuming = sluice
      .stream('gauged')
      .group('h')
      .consume(async () => {}, { signal: ending.signal });
    await joined;
    await db.query('alter table sluice.groups rename name to hidden'); // no claim asks for it
    try {
      const failed = nextMessage<{ where: string }>(
        'sluice:background.failed',
        ({ where }) => where === 'group metrics',
      );
      const metrics = await scrape(serving);
      await failed;
      expect(metrics.get('sluice_group_paused')?.samples.size).toBe(0);
      expect(valueOf(metrics, 'sluice_database_up')).toBe(1);
    } finally {
      await db.query('alter table sluice.groups rename hidden to name');
    }
    ending.abort();
    await consuming;
  });

  test('listener, bus and database', async () => {
    await using serving = await serve(sluice, { metrics: true });
    await using subscription = await sluice.bus.subscribe('noted', { buffer: 1, schema: z.number() });
    for (const payload of ['1', 'no number']) await sluice.bus.notify('noted', payload);
    await until(() => sluice.bus.stats().missed === 1);
    const notices = subscription[Symbol.asyncIterator]();
    expect((await notices.next()).value).toEqual({ kind: 'lagged', missed: 1 });
    const waiting = notices.next();
    await nextMessage('sluice:bus.malformed');
    await nextMessage('sluice:listener.beat');
    const metrics = await scrape(serving);
    const { generation, channels, subscriptions, messages } = sluice.bus.stats();
    expect(valueOf(metrics, 'sluice_database_up')).toBe(1);
    expect(valueOf(metrics, 'sluice_listener_state{state="listening"}')).toBe(1);
    expect(valueOf(metrics, 'sluice_listener_state{state="reconnecting"}')).toBe(0);
    expect(valueOf(metrics, 'sluice_listener_generation')).toBe(generation);
    expect(valueOf(metrics, 'sluice_listener_queue_usage_ratio')).toBeGreaterThanOrEqual(0);
    expect(valueOf(metrics, 'sluice_listener_round_trip_seconds')).toBeGreaterThan(0);
    expect(valueOf(metrics, 'sluice_bus_channels')).toBe(channels);
    expect(valueOf(metrics, 'sluice_bus_subscriptions')).toBe(subscriptions);
    expect(valueOf(metrics, 'sluice_bus_messages_total')).toBe(messages);
    expect(valueOf(metrics, 'sluice_bus_failed_total')).toBe(0);
    expect(valueOf(metrics, 'sluice_bus_missed_total')).toBe(1);
    expect(valueOf(metrics, 'sluice_bus_malformed_total')).toBe(1);
    expect(valueOf(metrics, 'sluice_bus_gaps_total')).toBe(0);
    const lost = nextMessage('sluice:listener.lost');
    const again = nextMessage('sluice:listener.connected');
    await killListener(db);
    await lost;
    await again;
    const after = await scrape(serving);
    expect(valueOf(after, 'sluice_listener_lost_total')).toBe(1);
    expect(valueOf(after, 'sluice_listener_generation')).toBe(generation + 1);
    expect(valueOf(after, 'sluice_bus_gaps_total')).toBe(1);
    expect((await waiting).value).toEqual({ kind: 'gap', generation: generation + 1 });
  });

  test('a database that is away is told, and so are the others', async () => {
    const other = await connect({ connectionString: db.connectionString, relay: false });
    await using serving = await serve(other, { metrics: true });
    await other.close();
    const metrics = await scrape(serving);
    expect(valueOf(metrics, 'sluice_database_up')).toBe(0);
    expect(valueOf(metrics, 'sluice_listener_state{state="closed"}')).toBe(1);
  });

  test('I7: a database that is silent is told in time, and asked once however many scrapes there are', async () => {
    using proxy = await createProxy(targetOf(db.connectionString));
    const pool = new Pool({ connectionString: through(proxy, db.connectionString) });
    pool.on('error', () => {});
    let asked = 0;
    const counted: PoolLike = {
      query: (config) => {
        if (config.text === 'select 1') asked += 1;
        return pool.query(config);
      },
      connect: () => pool.connect(),
    };
    const other = await connect({ connectionString: db.connectionString, pool: counted, relay: false });
    await using serving = await serve(other, { metrics: true });
    expect(valueOf(await scrape(serving), 'sluice_database_up')).toBe(1);
    proxy.pause();
    asked = 0;
    const scrapes = await Promise.all([scrape(serving), scrape(serving), scrape(serving)]);
    expect(scrapes.map((metrics) => valueOf(metrics, 'sluice_database_up'))).toEqual([0, 0, 0]);
    expect(asked).toBe(1);
    proxy.resume();
    await until(async () => valueOf(await scrape(serving), 'sluice_database_up') === 1);
    await other.close();
    await pool.end();
  });

  test('no name that a user chooses, of whatever kind', async () => {
    await using serving = await serve(sluice, { metrics: true });
    await sluice.createStream('a"name\\of\n'.trim());
    using client = await openSse(serving.url('a"name\\of', 'after=start'));
    await client.opened();
    const text = await (await fetch(`${serving.origin}/metrics`)).text();
    expect(text).not.toContain('name');
    parseExposition(text);
  });
});

describe("a registry of the user's own", () => {
  test('takes them all, beside its own and with its labels', async () => {
    await using serving = await serve(sluice);
    const registry = new Registry();
    registry.setDefaultLabels({ app: 'shop' });
    serving.handler.registerMetrics(registry);
    await sluice.createStream('registered');
    await sluice.stream('registered').append(1);
    const metrics = parseExposition(await registry.metrics());
    expect(valueOf(metrics, 'sluice_append_events_total{app="shop"}')).toBe(1);
    await using other = await serve(sluice);
    expect(() => other.handler.registerMetrics(registry)).toThrow(/already been registered/);
    expect(await registry.getMetricsAsJSON()).toHaveLength(metrics.size);
    registry.resetMetrics();
    expect(valueOf(parseExposition(await registry.metrics()), 'sluice_append_events_total{app="shop"}')).toBe(
      1,
    );
  });

  test('in the OpenMetrics format too', async () => {
    await using serving = await serve(sluice, { metrics: true });
    const registry = new Registry();
    registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE as never);
    serving.handler.registerMetrics(registry);
    await sluice.stream('registered').append(1);
    const text = await registry.metrics();
    expect(text).toMatch(/^# TYPE sluice_append_events counter\nsluice_append_events_total 1$/m);
    expect(text.endsWith('# EOF\n')).toBe(true);
    expect(valueOf(await scrape(serving), 'sluice_append_events_total')).toBe(1); // the other format goes on
  });
});

test('the strict reader is strict', () => {
  const good = '# HELP a_total h\n# TYPE a_total counter\na_total{by="x"} 1\n';
  expect(valueOf(parseExposition(good), 'a_total{by="x"}')).toBe(1);
  const bad = [
    good.trimEnd(),
    good + good,
    `${good}b_total 1\n`,
    `${good}a_total{by="x"} 2\n`,
    good.replace('} 1', '} -1'),
    good.replace('} 1', '} one'),
    good.replace('by="x"', 'by="x",by="y"'),
    good.replace('by="x"', 'by="x"y'),
    good.replaceAll('a_total', 'a'),
    good.replaceAll('a_total', 'a_ms_total'),
    good.replace('# HELP a_total h\n', ''),
    '# HELP a h\n# TYPE a histogram\na_bucket{le="1"} 2\na_bucket{le="+Inf"} 1\na_sum 1\na_count 1\n',
    '# HELP a h\n# TYPE a histogram\na_bucket{le="1"} 1\na_sum 1\na_count 1\n',
  ];
  for (const text of bad) expect(() => parseExposition(text), text).toThrow();
});
