// What is told to Prometheus: the names, units and values of all metrics, put together when somebody asks. The counting
// is done elsewhere, all the time; prom-client, which writes the format, is loaded with the first scrape. No metric has
// a label whose values users choose, for streams, principals and addresses are without number; but for those of groups,
// which programs name, and of which only so many are told apart.
import type { Sluice } from '../sluice/connect.ts';
import { Activity } from './activity.ts';
import { groupMetrics, positionsOf } from './group-metrics.ts';
import { counter, gauge, histogram, inSeconds, labelled, registered, type Metric } from './metric.ts';
import { methodNotAllowed } from './problem.ts';
import type { HandlerStats, Stats } from './stats.ts';

type NotifyBusStats = ReturnType<Sluice['bus']['stats']>;

/** As much of a prom-client Registry as is needed to add metrics to it. */
export interface MetricRegistry {
  registerMetric(metric: never): void;
}

/** Who may read them: anybody, nobody, or those for whom it answers true. */
export type MetricsReaders = boolean | ((request: Request) => boolean | Promise<boolean>);

export interface MetricsOptions {
  readonly sluice: Sluice;
  readonly stats: Stats;
  readonly readers: MetricsReaders;
}

const LISTENER_STATES: readonly NotifyBusStats['state'][] = [
  'connecting',
  'listening',
  'reconnecting',
  'unavailable',
  'closed',
];

/** Counts what the process does, if anybody may read it, from when it is made until it is closed. */
export class Metrics {
  readonly #options: MetricsOptions;
  readonly #positions: ReturnType<typeof positionsOf>;
  #activity: Activity | undefined;
  #closed = false;

  /** @throws TypeError for readers that cannot be told */
  constructor(options: MetricsOptions) {
    const { readers } = options;
    if (typeof readers !== 'boolean' && typeof readers !== 'function')
      throw new TypeError('metrics must be true, or a function that decides on a request');
    this.#options = options;
    this.#positions = positionsOf(options.sluice);
    if (readers !== false) this.#activity = new Activity();
  }

  /** Begins to count, if it did not. @throws Error if the registry has metrics of these names */
  registerOn(registry: MetricRegistry): void {
    const { sluice, stats } = this.#options;
    this.#activity ??= new Activity();
    if (this.#closed) this.#activity.close();
    const all = [
      deliveryMetrics(stats),
      listenerMetrics(sluice),
      writeMetrics(this.#activity),
      groupMetrics(this.#activity.groups, this.#positions),
      backgroundMetrics(this.#activity),
    ].flat();
    for (const metric of all) registry.registerMetric(registered(metric) as never);
  }

  /** All of them in Prometheus' text format; undefined for those who may not read them. */
  async answer(request: Request): Promise<Response | undefined> {
    const { readers } = this.#options;
    const may: unknown = typeof readers === 'function' ? await readers(request) : readers;
    if (may !== true) return undefined; // nothing else opens it: a Response, a grant
    if (request.method !== 'GET' && request.method !== 'HEAD') return methodNotAllowed('GET, HEAD');
    const { Registry } = await import('prom-client');
    const registry = new Registry();
    this.registerOn(registry);
    return new Response(await registry.metrics(), {
      headers: { 'content-type': registry.contentType, 'cache-control': 'no-store' },
    });
  }

  close(): void {
    this.#closed = true;
    this.#activity?.close();
  }
}

function deliveryMetrics(stats: Stats): Metric[] {
  const totals = (): Omit<HandlerStats, 'streams'> => stats.totals();
  return [
    gauge('sluice_http_connections', 'Event connections open now.', () => totals().connections),
    gauge('sluice_http_streams', 'Streams with an open connection.', () => stats.streams),
    counter('sluice_http_connections_opened_total', 'Event connections opened.', () => totals().opened),
    counter(
      'sluice_http_connections_ended_total',
      'Event connections ended; reason="slow" was evicted.',
      () => labelled('reason', Object.entries(totals().ended)),
    ),
    counter('sluice_http_requests_refused_total', 'Requests for events that were refused.', () =>
      labelled('status', Object.entries(totals().refused)),
    ),
    counter(
      'sluice_http_delivered_events_total',
      'Events written, an event once for each connection.',
      () => totals().events,
    ),
    counter(
      'sluice_http_delivered_bytes_total',
      'Bytes of events written, frames included.',
      () => totals().bytes,
    ),
    counter(
      'sluice_http_live_events_total',
      'Events that went out as they came, each once.',
      () => totals().liveEvents,
    ),
    counter(
      'sluice_http_live_deliveries_total',
      'Events that went out as they came, once for each connection.',
      () => totals().liveDeliveries,
    ),
    histogram(
      'sluice_http_replay_events',
      'Events to catch up with, when a connection opened a stream.',
      () => totals().replayEvents,
    ),
    histogram(
      'sluice_http_delivery_latency_seconds',
      "From an event's time to its write, live ones only.",
      () => inSeconds(totals().latencyMs),
    ),
  ];
}

function listenerMetrics(sluice: Sluice): Metric[] {
  const bus = (): NotifyBusStats => sluice.bus.stats();
  const orNaN = (value: number | null): number => value ?? Number.NaN;
  const isUp = async (): Promise<number> => ((await sluice.health()).database ? 1 : 0);
  return [
    gauge('sluice_database_up', 'Whether the database answers.', isUp),
    gauge('sluice_listener_state', 'State of the listener: 1 for the one it is in.', () =>
      labelled(
        'state',
        LISTENER_STATES.map((state) => [state, state === bus().state ? 1 : 0]),
      ),
    ),
    gauge('sluice_listener_generation', 'How many sessions the listener has had.', () => bus().generation),
    gauge('sluice_listener_queue_usage_ratio', "How full the server's notification queue is, 0 to 1.", () =>
      orNaN(bus().queueUsage),
    ),
    gauge(
      'sluice_listener_round_trip_seconds',
      'How long the last heartbeat took.',
      () => orNaN(bus().roundTripMs) / 1000,
    ),
    gauge('sluice_bus_channels', 'Channels listened to for subscriptions.', () => bus().channels),
    gauge('sluice_bus_subscriptions', 'Subscriptions of the bus.', () => bus().subscriptions),
    counter('sluice_bus_messages_total', 'Messages that went to subscriptions.', () => bus().messages),
    counter('sluice_bus_missed_total', 'Messages pushed out of a full buffer.', () => bus().missed),
    counter('sluice_bus_gaps_total', 'Times a subscription was told of a gap.', () => bus().gaps),
    counter('sluice_bus_failed_total', 'Calls of handlers that failed.', () => bus().failed),
    counter('sluice_bus_malformed_total', 'Messages that did not fit their schema.', () => bus().malformed),
  ];
}

function writeMetrics(activity: Activity): Metric[] {
  return [
    counter('sluice_append_events_total', 'Events appended.', () => activity.appendedEvents),
    histogram('sluice_append_duration_seconds', 'Calls that append, committed.', () =>
      inSeconds(activity.appendMs.stats()),
    ),
    counter(
      'sluice_relay_moved_events_total',
      'Published events moved into logs.',
      () => activity.movedEvents,
    ),
    histogram('sluice_relay_pass_duration_seconds', 'Passes that moved something.', () =>
      inSeconds(activity.passMs.stats()),
    ),
    counter('sluice_relay_passes_total', 'Passes that moved something, by who made them.', () =>
      labelled('by', activity.passes),
    ),
    counter(
      'sluice_relay_undeliverable_events_total',
      'Published events whose stream was gone.',
      () => activity.undeliverableEvents,
    ),
  ];
}

function backgroundMetrics(activity: Activity): Metric[] {
  return [
    counter(
      'sluice_tail_reads_total',
      'Times that a followed stream was found to have gone on.',
      () => activity.tailReads,
    ),
    counter(
      'sluice_tail_events_total',
      'Events that followed streams went on by.',
      () => activity.tailEvents,
    ),
    counter('sluice_poll_runs_total', 'Fallback polls.', () => activity.pollsFinished),
    counter(
      'sluice_poll_behind_streams_total',
      'Streams that a poll found behind: hints were lost.',
      () => activity.pollBehindReaders,
    ),
    counter(
      'sluice_poll_stale_events_total',
      'Published events that a poll had to move.',
      () => activity.pollStaleEvents,
    ),
    counter(
      'sluice_listener_lost_total',
      'Sessions of the listener that ended.',
      () => activity.lostSessions,
    ),
    counter('sluice_replica_reads_total', 'Reads of a replica, by whether its answer was used.', () =>
      labelled('used', activity.replicaReads),
    ),
    counter(
      'sluice_retention_trimmed_events_total',
      'Events trimmed by retention.',
      () => activity.trimmedEvents,
    ),
    counter(
      'sluice_retention_purged_events_total',
      'Rows of trimmed and deleted events removed.',
      () => activity.purgedEvents,
    ),
    counter(
      'sluice_retention_held_streams_total',
      'Streams left for the next round: somebody held them.',
      () => activity.heldStreams,
    ),
    counter('sluice_background_failures_total', 'Failures in the background, by where.', () =>
      labelled('where', activity.failures),
    ),
  ];
}
