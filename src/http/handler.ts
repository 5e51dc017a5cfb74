// The HTTP face of one Sluice: a Request in, a Response out, on any host. Routes, refuses, keeps the heartbeat of all
// connections, and ends them on shutdown so that their clients come back spread out.
import { coreOf, type Sluice } from '../sluice/connect.ts';
import { jittered } from '../util/backoff.ts';
import { report } from '../util/diagnostics.ts';
import { random } from '../util/random.ts';
import { MAX_CURSOR_POSITIONS } from '../protocol/cursor.ts';
import { Admission } from './admission.ts';
import { audiencesFrom } from './audience.ts';
import { clientAddress, trustOf, type Trust } from './client-address.ts';
import { corsRules, type CorsRules } from './cors.ts';
import { crossOrigin } from './cross-origin.ts';
import { count, duration, statsHistorySettings, type HandlerOptions } from './handler-options.ts';
import { createFilters } from './filters.ts';
import { handleEvents, type EventsContext } from './events.ts';
import { Metrics, type MetricRegistry } from './metrics.ts';
import { methodNotAllowed, notFound, problem, unavailable } from './problem.ts';
import type { Revocation } from './revocation-list.ts';
import { Revocations } from './revocations.ts';
import { EventSession } from './session.ts';
import { readStatsHistory, type StatsHistoryQuery, type StatsInterval } from './stats-history.ts';
import { StatsLedger } from './stats-ledger.ts';
import { StatsRecorder } from './stats-recorder.ts';
import { Stats, type HandlerStats } from './stats.ts';
import { MAX_TOKEN_MS } from './token-claims.ts';

/** What any host can call. */
export type RequestHandler = (
  request: Request,
  info?: { readonly remoteAddress?: string | undefined },
) => Promise<Response>;

/** Serves requests; `close` ends all event streams and refuses new ones. */
export interface SluiceHandler extends RequestHandler {
  /** What it has delivered and refused so far: a frozen copy, which costs as much as there are streams being read. */
  stats(): HandlerStats;
  /**
   * What handlers have counted in the past, interval by interval, oldest first: those of all processes with the option
   * `statsHistory`. Ends normally when the signal aborts.
   *
   * @throws SluiceError
   * @example
   * const since = new Date(Date.now() - 3_600_000);
   * for await (const { at, instance, events } of handler.statsHistory({ stream: 'orders', since })) …
   */
  statsHistory(query?: StatsHistoryQuery): AsyncIterable<StatsInterval>;
  /**
   * Adds what `/metrics` tells to a prom-client registry of your own. Of a handler made without `metrics`, what the
   * process does is counted from here on.
   *
   * @throws Error if the registry has metrics of these names, such as another handler's
   * @example
   * handler.registerMetrics(register); // import { register } from 'prom-client'
   */
  registerMetrics(registry: MetricRegistry): void;
  /**
   * Revokes a token, or all that a principal was issued until now: connections end on every process, and what is shown
   * again is refused. Resolves when that is committed and in force in this process. Needs the option `revocations`.
   *
   * @throws TypeError; SluiceError
   * @example
   * await handler.revoke({ principal: 'alice' });
   */
  revoke(revocation: Revocation): Promise<void>;
  close(): Promise<void>;
}

/**
 * Serves streams over HTTP: `GET /v1/events`, `/livez`, `/readyz`, and `/metrics` if that is opened.
 *
 * @throws TypeError without an authorize hook, for an audience that is no plain function, or for a base path that no
 * request can match; RangeError for a limit
 * @example
 * const handler = createHandler(sluice, { authorize: async (request) => ({ principal: await userOf(request) }) });
 */
export function createHandler(sluice: Sluice, options: HandlerOptions): SluiceHandler {
  const { authorize, basePath = '' } = options;
  if (typeof authorize !== 'function')
    throw new TypeError('authorize must be a function: it decides who may read what');
  if (basePath !== '' && !isPath(basePath)) {
    throw new TypeError(
      `basePath is ${JSON.stringify(basePath)}; it starts with a slash, does not end with one, and is written as in a URL`,
    );
  }
  const server = new HttpServer(sluice, options);
  const handler: RequestHandler = async (request, info) => {
    const { pathname } = new URL(request.url);
    return pathname.startsWith(`${basePath}/`)
      ? server.serve(request, pathname.slice(basePath.length), info?.remoteAddress)
      : unknownPath(pathname);
  };
  return Object.assign(handler, {
    stats: () => server.stats.snapshot(),
    statsHistory: (query: StatsHistoryQuery = {}) => readStatsHistory(coreOf(sluice).database, query),
    registerMetrics: (registry: MetricRegistry) => server.metrics.registerOn(registry),
    revoke: (revocation: Revocation) => server.revoke(revocation),
    close: () => server.close(),
  });
}

const EVENTS_PATH = '/v1/events';

const isPath = (path: unknown): boolean =>
  typeof path === 'string' &&
  path.startsWith('/') &&
  !path.endsWith('/') &&
  new URL(`http://host${path}`).pathname === path;

const unknownPath = (path: string): Response => notFound(`there is nothing at ${path.slice(0, 200)}`);

class HttpServer {
  readonly stats: Stats;
  readonly metrics: Metrics;
  readonly #sluice: Sluice;
  readonly #context: Omit<EventsContext, 'admit'>;
  readonly #admission: Admission;
  readonly #maxConnectionMs: number;
  /** With the time at which each has lived long enough, once it has begun. */
  readonly #sessions = new Map<EventSession, number | undefined>();
  readonly #cors: CorsRules | undefined;
  readonly #trust: Trust;
  readonly #revocations: Revocations | undefined;
  readonly #recorder: StatsRecorder | undefined;
  readonly #retryMs: number;
  readonly #heartbeat: NodeJS.Timeout;
  #closed = false;

  constructor(sluice: Sluice, options: HandlerOptions) {
    const { limits = {}, metrics = false } = options;
    const heartbeatMs = duration('heartbeatMs', limits.heartbeatMs ?? 15_000);
    const drainTimeoutMs = duration('drainTimeoutMs', limits.drainTimeoutMs ?? 30_000);
    const core = coreOf(sluice);
    const history = statsHistorySettings(options.statsHistory);
    this.stats = new Stats(history && new StatsLedger(history.maxStreams));
    this.#cors = corsRules(options.cors);
    this.#trust = trustOf(options.trustProxy);
    this.#revocations = revocationsOf(sluice, options.revocations);
    this.#sluice = sluice;
    this.#retryMs = duration('retryMs', limits.retryMs ?? 2000);
    this.#maxConnectionMs = duration('maxConnectionMs', limits.maxConnectionMs ?? 3_600_000);
    this.#admission = new Admission({
      maxConnections: count('maxConnections', limits.maxConnections ?? 10_000),
      maxConnectionsPerAddress: count('maxConnectionsPerAddress', limits.maxConnectionsPerAddress ?? 1000),
      maxConnectionsPerPrincipal: count(
        'maxConnectionsPerPrincipal',
        limits.maxConnectionsPerPrincipal ?? 100,
      ),
    });
    const { logger } = core.settings;
    const filters = createFilters(audiencesFrom(options.audiences ?? {}), logger);
    this.#context = {
      tails: core.tails,
      ephemerals: core.ephemerals,
      broadcastFilter: filters.broadcasts,
      presence: core.presence,
      authorize: options.authorize,
      revocations: this.#revocations,
      maxStreams: count('maxStreams', limits.maxStreams ?? MAX_CURSOR_POSITIONS, MAX_CURSOR_POSITIONS),
      createSession: ({ streams, format }, viewer) => {
        if (this.#closed) return undefined; // closed while the hook was asked
        const retryMs = this.#retry();
        return this.#add(
          new EventSession({
            streams,
            format,
            retryMs,
            drainTimeoutMs,
            filter: filters.events,
            viewer,
            expiresAt: viewer.expiresAt,
            logger,
            stats: this.stats,
          }),
        );
      },
    };
    this.metrics = new Metrics({ sluice, stats: this.stats, readers: metrics });
    this.#heartbeat = setInterval(() => this.#beat(), heartbeatMs);
    this.#heartbeat.unref();
    const { database } = core;
    this.#recorder = history && new StatsRecorder({ ...history, database, logger, stats: this.stats });
  }

  /** Never rejects. */
  async serve(request: Request, path: string, remoteAddress: string | undefined): Promise<Response> {
    const address = clientAddress(request, remoteAddress, this.#trust);
    const failed = (error: unknown): Response => {
      coreOf(this.#sluice).settings.logger.error({ error, path, address }, 'a request failed');
      report('sluice:background.failed', () => ({ where: 'request', error }));
      return internalError();
    };
    const answer = (): Promise<Response> => this.#route(request, path, address).catch(failed);
    const response = await crossOrigin(request, this.#cors, answer).catch(failed);
    if (path === EVENTS_PATH && response.status >= 300) this.stats.refused(response.status);
    return response;
  }

  revoke(revocation: Revocation): Promise<void> {
    if (this.#revocations) return this.#revocations.revoke(revocation);
    return Promise.reject(
      new TypeError('give createHandler the option `revocations`: the name of the stream they are kept in'),
    );
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.metrics.close();
    clearInterval(this.#heartbeat);
    this.#revocations?.close();
    for (const session of this.#sessions.keys()) session.end('shutdown', this.#retry());
    await this.#recorder?.close(); // after them, so that their ends are counted
  }

  #add(session: EventSession): EventSession {
    // Looked at with each heartbeat: a timer for every connection would cost more than all else that is kept of it.
    this.#sessions.set(session, undefined);
    session.onceEnded(() => this.#sessions.delete(session));
    return session;
  }

  async #route(request: Request, path: string, address: string | undefined): Promise<Response> {
    switch (path) {
      case EVENTS_PATH:
        if (request.method !== 'GET') return methodNotAllowed('GET');
        return this.#closed
          ? unavailable('the server is shutting down; try again')
          : handleEvents(request, { ...this.#context, admit: () => this.#admission.admit(address) });
      case '/livez':
        return isRead(request) ? state(200, { ok: true }) : methodNotAllowed('GET, HEAD');
      case '/readyz':
        return isRead(request) ? this.#readiness() : methodNotAllowed('GET, HEAD');
      case '/metrics':
        return (await this.metrics.answer(request)) ?? unknownPath(path);
      default:
        return unknownPath(path);
    }
  }

  // A lost listener session is not a reason to take the process out: readers poll until it is back.
  async #readiness(): Promise<Response> {
    const { database, listener } = await this.#sluice.health();
    const ready = database && !this.#closed;
    return state(ready ? 200 : 503, { ok: ready, database, listener, shuttingDown: this.#closed });
  }

  #retry(): number {
    return jittered(this.#retryMs, random());
  }

  #beat(): void {
    const now = performance.now();
    for (const [session, endsAt] of this.#sessions) {
      if (endsAt === undefined && session.begun) {
        this.#sessions.set(session, now + jittered(this.#maxConnectionMs, random()));
      }
      if (endsAt === undefined || now < endsAt) session.tick(now);
      else session.end('lifetime', this.#retry());
    }
  }
}

function revocationsOf(sluice: Sluice, stream: string | undefined): Revocations | undefined {
  if (stream === undefined) return undefined;
  const keepMs = MAX_TOKEN_MS + DAY_MS; // and a day for clocks that differ
  const { logger, fallbackPollMs } = coreOf(sluice).settings;
  return new Revocations({ sluice, stream, keepMs, confirmedMs: 3 * fallbackPollMs, logger });
}

const DAY_MS = 86_400_000;

const internalError = (): Response =>
  problem({
    status: 500,
    title: 'Internal Server Error',
    detail: 'the request failed; the server has logged why',
  });

const isRead = ({ method }: Request): boolean => method === 'GET' || method === 'HEAD';

const state = (status: number, body: object): Response =>
  new Response(JSON.stringify(body), {
    status,
    headers: { 'content-type': 'application/json', 'cache-control': 'no-store' },
  });
