// The HTTP face of one Sluice: a Request in, a Response out, on any host. Routes, refuses, keeps the heartbeat of all
// connections, and ends them on shutdown so that their clients come back spread out.
import { coreOf, type Sluice } from '../sluice/connect.ts';
import { jittered } from '../util/backoff.ts';
import { report } from '../util/diagnostics.ts';
import { random } from '../util/random.ts';
import { MAX_CURSOR_POSITIONS } from '../protocol/cursor.ts';
import { Admission } from './admission.ts';
import type { Authorize } from './authorize.ts';
import { handleEvents, type EventsContext } from './events.ts';
import { Metrics, type MetricRegistry, type MetricsReaders } from './metrics.ts';
import { methodNotAllowed, notFound, problem, unavailable } from './problem.ts';
import { EventSession } from './session.ts';
import { Stats, type HandlerStats } from './stats.ts';

export interface HandlerLimits {
  /** Between heartbeats on an idle connection, in milliseconds. Default 15 000. */
  readonly heartbeatMs?: number | undefined;
  /** How long clients wait before they reconnect, in milliseconds, ±20 % by chance. Default 2 000. */
  readonly retryMs?: number | undefined;
  /**
   * How long a connection may be unable to take more before it is dropped, in milliseconds; looked at with each
   * heartbeat. Default 30 000.
   */
  readonly drainTimeoutMs?: number | undefined;
  /**
   * How long a connection lives, in milliseconds, ±20 % by chance: then its client is told to come back. Bounds how long
   * a peer can be gone unnoticed while something is on its way to it. Default 3 600 000.
   */
  readonly maxConnectionMs?: number | undefined;
  /** Connections of this process at a time; more are answered 503. Default 10 000. */
  readonly maxConnections?: number | undefined;
  /** Connections of one address at a time; more are answered 429. Default 1 000. */
  readonly maxConnectionsPerAddress?: number | undefined;
  /** Connections of one principal at a time; more are answered 429. Default 100. */
  readonly maxConnectionsPerPrincipal?: number | undefined;
  /** Streams on one connection. Default and at most 20. */
  readonly maxStreams?: number | undefined;
}

export interface HandlerOptions {
  /** Decides who may read what. Required: nothing is open by default. */
  readonly authorize: Authorize;
  /** Where the handler is mounted, such as `/sluice`. Default: at the root. */
  readonly basePath?: string | undefined;
  readonly limits?: HandlerLimits | undefined;
  /**
   * Who may read `GET /metrics` (Prometheus): `true` anybody who can reach it, a function those for whom it answers
   * `true`. Closed by default, and answered 404 to all others: it tells about the whole system.
   */
  readonly metrics?: MetricsReaders | undefined;
}

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
   * Adds what `/metrics` tells to a prom-client registry of your own. Of a handler made without `metrics`, what the
   * process does is counted from here on.
   *
   * @throws Error if the registry has metrics of these names, such as another handler's
   * @example
   * handler.registerMetrics(register); // import { register } from 'prom-client'
   */
  registerMetrics(registry: MetricRegistry): void;
  close(): Promise<void>;
}

/**
 * Serves streams over HTTP: `GET /v1/events`, `/livez`, `/readyz`, and `/metrics` if that is opened.
 *
 * @throws TypeError without an authorize hook, or for a base path that no request can match; RangeError for a limit
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
    registerMetrics: (registry: MetricRegistry) => server.metrics.registerOn(registry),
    close: () => server.close(),
  });
}

const EVENTS_PATH = '/v1/events';

const isPath = (path: string): boolean =>
  path.startsWith('/') && !path.endsWith('/') && new URL(`http://host${path}`).pathname === path;

const MAX_TIMER_MS = 2 ** 31 - 1; // past that, a timer fires at once

function duration(name: keyof HandlerLimits, ms: number): number {
  if (typeof ms === 'number' && ms >= 1 && ms <= MAX_TIMER_MS) return ms;
  throw new RangeError(`limits.${name} is ${String(ms)}; give milliseconds from 1 to ${MAX_TIMER_MS}`);
}

function count(name: keyof HandlerLimits, value: number, most = Number.MAX_SAFE_INTEGER): number {
  if (Number.isInteger(value) && value >= 1 && value <= most) return value;
  throw new RangeError(`limits.${name} is ${String(value)}; give a whole number from 1 to ${most}`);
}

const unknownPath = (path: string): Response => notFound(`there is nothing at ${path.slice(0, 200)}`);

class HttpServer {
  readonly stats: Stats = new Stats();
  readonly metrics: Metrics;
  readonly #sluice: Sluice;
  readonly #context: Omit<EventsContext, 'admit'>;
  readonly #admission: Admission;
  readonly #maxConnectionMs: number;
  readonly #sessions = new Set<EventSession>();
  readonly #retryMs: number;
  readonly #heartbeat: NodeJS.Timeout;
  #closed = false;

  constructor(sluice: Sluice, { authorize, limits = {}, metrics = false }: HandlerOptions) {
    const heartbeatMs = duration('heartbeatMs', limits.heartbeatMs ?? 15_000);
    const drainTimeoutMs = duration('drainTimeoutMs', limits.drainTimeoutMs ?? 30_000);
    const core = coreOf(sluice);
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
    this.#context = {
      tails: core.tails,
      authorize,
      maxStreams: count('maxStreams', limits.maxStreams ?? MAX_CURSOR_POSITIONS, MAX_CURSOR_POSITIONS),
      createSession: ({ streams, format }) => {
        if (this.#closed) return undefined; // closed while the hook was asked
        return this.#add(
          new EventSession({
            streams,
            format,
            retryMs: this.#retry(),
            drainTimeoutMs,
            logger,
            stats: this.stats,
          }),
        );
      },
    };
    this.metrics = new Metrics({ sluice, stats: this.stats, readers: metrics });
    this.#heartbeat = setInterval(() => this.#beat(), heartbeatMs);
    this.#heartbeat.unref();
  }

  async serve(request: Request, path: string, address: string | undefined): Promise<Response> {
    const response = await this.#answer(request, path, address);
    if (path === EVENTS_PATH && response.status >= 300) this.stats.refused(response.status);
    return response;
  }

  async #answer(request: Request, path: string, address: string | undefined): Promise<Response> {
    try {
      return await this.#route(request, path, address);
    } catch (error) {
      coreOf(this.#sluice).settings.logger.error({ error, path }, 'a request failed');
      report('sluice:background.failed', () => ({ where: 'request', error }));
      return problem({
        status: 500,
        title: 'Internal Server Error',
        detail: 'the request failed; the server has logged why',
      });
    }
  }

  close(): Promise<void> {
    this.#closed = true;
    this.metrics.close();
    clearInterval(this.#heartbeat);
    for (const session of this.#sessions) session.end('shutdown', this.#retry());
    return Promise.resolve();
  }

  #add(session: EventSession): EventSession {
    this.#sessions.add(session);
    const lifetime = Math.min(jittered(this.#maxConnectionMs, random()), MAX_TIMER_MS);
    const old = setTimeout(() => session.end('lifetime', this.#retry()), lifetime);
    old.unref();
    session.onceEnded(() => {
      clearTimeout(old);
      this.#sessions.delete(session);
    });
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
    for (const session of this.#sessions) session.tick(now);
  }
}

const isRead = ({ method }: Request): boolean => method === 'GET' || method === 'HEAD';

const state = (status: number, body: object): Response =>
  new Response(JSON.stringify(body), {
    status,
    headers: { 'content-type': 'application/json', 'cache-control': 'no-store' },
  });
