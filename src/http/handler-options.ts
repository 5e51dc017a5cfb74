// What a handler can be told, and the checks of it. Every default is documented here; most are applied in handler.ts.
import { hostname } from 'node:os';
import { processId } from '../sluice/environment.ts';
import { within, wholeWithin } from '../util/bounds.ts';
import type { Audience } from './audience.ts';
import type { Authorize } from './authorize.ts';
import type { TrustProxy } from './client-address.ts';
import type { CorsOptions } from './cors.ts';
import type { MetricsReaders } from './metrics.ts';

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
   * How long a connection lives, in milliseconds, ±20 % by chance, looked at with each heartbeat: then its client is told
   * to come back. Bounds how long a peer can be gone unnoticed while something is on its way to it. Default 3 600 000.
   */
  readonly maxConnectionMs?: number | undefined;
  /** Connections of this process at a time; more are answered 503. Default 10 000. */
  readonly maxConnections?: number | undefined;
  /** Connections of one address (of IPv6: of one /64) at a time; more are answered 429. Default 1 000. */
  readonly maxConnectionsPerAddress?: number | undefined;
  /** Connections of one principal at a time; more are answered 429. Default 100. */
  readonly maxConnectionsPerPrincipal?: number | undefined;
  /** Streams on one connection. Default and at most 20. */
  readonly maxStreams?: number | undefined;
}

export interface StatsHistoryOptions {
  /** Between two writes, in milliseconds. Default 60 000. */
  readonly intervalMs?: number | undefined;
  /** How long an interval is kept, in milliseconds. Default 604 800 000, a week. */
  readonly keepMs?: number | undefined;
  /** Streams that an interval tells of, the busiest; all are in the counts of the handler. Default 100. */
  readonly maxStreams?: number | undefined;
  /** What this process calls itself, 1 to 255 characters. Default: the machine's name and the process id. */
  readonly instance?: string | undefined;
}

export interface HandlerOptions {
  /** Decides who may read what. Required: nothing is open by default. */
  readonly authorize: Authorize;
  /**
   * Who sees events and broadcasts with `visibleTo`: by label, a predicate on the grant's `context`. Default: nobody does.
   * A label that is not here hides what has it, and so does a predicate that throws or answers anything but `true`.
   */
  readonly audiences?: Readonly<Record<string, Audience>> | undefined;
  /** Where the handler is mounted, such as `/sluice`. Default: at the root. */
  readonly basePath?: string | undefined;
  /** Which pages of other origins may ask. Default: none with anything that says who asks, and none may read the answer. */
  readonly cors?: CorsOptions | undefined;
  /**
   * How many proxies stand before this server, or their addresses and networks (`['10.0.0.0/8']`): how much of
   * X-Forwarded-For is believed about a client's address. Default: nothing.
   */
  readonly trustProxy?: TrustProxy | undefined;
  /**
   * The stream of revocations, made if need be: each event revokes a `tokenId` or a `principal`, on every process whose
   * handler names the stream. Default: nothing can be revoked.
   */
  readonly revocations?: string | undefined;
  readonly limits?: HandlerLimits | undefined;
  /** Keeps what is counted in the table `stats_history`, interval by interval; true: with the defaults. Default: not. */
  readonly statsHistory?: boolean | StatsHistoryOptions | undefined;
  /**
   * Who may read `GET /metrics` (Prometheus): `true` anybody who can reach it, a function those for whom it answers
   * `true`. Closed by default, and answered 404 to all others: it tells about the whole system.
   */
  readonly metrics?: MetricsReaders | undefined;
}

export type StatsHistorySettings = Required<{
  readonly [Name in keyof StatsHistoryOptions]: NonNullable<StatsHistoryOptions[Name]>;
}>;

const MAX_KEEP_MS = 100 * 365 * 86_400_000;
const MAX_STREAMS_KEPT = 10_000;

/** Undefined: no history is kept. @throws TypeError, RangeError */
export function statsHistorySettings(
  options: boolean | StatsHistoryOptions | undefined,
): StatsHistorySettings | undefined {
  if (options === undefined || options === false) return undefined;
  if (options !== true && (typeof options !== 'object' || options === null)) {
    throw new TypeError('statsHistory must be true, or { intervalMs?, keepMs?, maxStreams?, instance? }');
  }
  const given: StatsHistoryOptions = options === true ? {} : options;
  const { intervalMs = 60_000, keepMs = 7 * 86_400_000, maxStreams = 100 } = given;
  const { instance = `${hostname()}:${processId()}` } = given;
  within('statsHistory.intervalMs', intervalMs, [1, MAX_TIMER_MS]);
  within('statsHistory.keepMs', keepMs, [1, MAX_KEEP_MS]);
  within('statsHistory.maxStreams', maxStreams, [0, MAX_STREAMS_KEPT]);
  if (typeof instance !== 'string' || !/^[^\p{Cc}\p{Cs}]{1,255}$/u.test(instance)) {
    throw new RangeError(
      'statsHistory.instance must have 1 to 255 characters, none of them a control character',
    );
  }
  return { intervalMs, keepMs, maxStreams: Math.floor(maxStreams), instance };
}

/** Past that, a timer fires at once. */
export const MAX_TIMER_MS: number = 2 ** 31 - 1;

/** @throws RangeError */
export const duration = (name: keyof HandlerLimits, ms: number): number =>
  within(`limits.${name}`, ms, [1, MAX_TIMER_MS]);

/** @throws RangeError */
export const count = (
  name: keyof HandlerLimits,
  value: number,
  most: number = Number.MAX_SAFE_INTEGER,
): number => wholeWithin(`limits.${name}`, value, [1, most]);
