// The options of connect and migrate, checked, with every default in one place.
import { requirePool, type PoolLike } from '../db/queryable.ts';
import { within } from '../util/bounds.ts';
import { databaseUrl } from '../util/database-url.ts';
import { loggerOf, type LoggerLike } from '../util/logger.ts';
import { shown } from '../util/shown.ts';

/** How to reach the database, and how this process takes part. */
export interface ConnectOptions {
  /** Default: the environment's DATABASE_URL. */
  readonly connectionString?: string | undefined;
  /** A direct URL for LISTEN and session locks, when `connectionString` goes through a transaction pooler. */
  readonly listenConnectionString?: string | undefined;
  /**
   * A hot standby of the same database, for what subscriptions read to catch up. It may be behind, or away: whatever it
   * cannot be shown to have is read from the primary. Default: none.
   */
  readonly readConnectionString?: string | undefined;
  /** Your own pg.Pool for queries. Listening still needs a connection string. Not closed by Sluice. */
  readonly pool?: PoolLike | undefined;
  /** The schema Sluice is installed in. Default `sluice`. */
  readonly schema?: string | undefined;
  /** `check` (default) refuses an older or incompatible schema; `apply` migrates first. */
  readonly migrate?: 'check' | 'apply' | undefined;
  /**
   * Whether this process may take the relay role: moving what is published, and letting go of what streams need not
   * keep. Default true.
   */
  readonly relay?: boolean | undefined;
  /** Whether append and publish create a missing stream. Default true. */
  readonly autoCreate?: boolean | undefined;
  /** Bounds the delay when every notification is lost, in milliseconds. Default 5 000; 10 to a day. */
  readonly fallbackPollMs?: number | undefined;
  /**
   * How often streams are brought within their bounds (see StreamOptions) by the process that has the relay role, in
   * milliseconds. Default 10 000; 10 to a day. Each time leaves one dead version of the stream's row behind.
   */
  readonly retentionIntervalMs?: number | undefined;
  /**
   * How long an append, a trim or a change of options waits for a stream that another transaction holds, and any write
   * for earlier ones whose schema has not answered, in milliseconds. Default 2 000; at most a day.
   */
  readonly appendTimeoutMs?: number | undefined;
  /** Events waiting in this process to be appended, and as many waiting for their schema, at most. Default 100 000. */
  readonly maxQueuedEvents?: number | undefined;
  /** Their bytes of JSON, at most. Default 256 MiB. */
  readonly maxQueuedBytes?: number | undefined;
  /** Recent events kept in memory per active stream, at most. Default 2 000. */
  readonly windowEvents?: number | undefined;
  /** Their size in memory, at most, in bytes. Default 8 MiB. */
  readonly windowBytes?: number | undefined;
  /** Catch-up reads at a time. Default 4. */
  readonly maxReads?: number | undefined;
  /**
   * Pages that a reader caught up with are kept for a second, for others who come by the same place: their size in memory,
   * at most, in bytes. Default 64 MiB. 0: nothing is kept.
   */
  readonly sharedPageBytes?: number | undefined;
  /** Bytes of JSON in one event, at most, and of its key, and of its headers. Default 1 MiB. */
  readonly maxEventBytes?: number | undefined;
  /** How far ahead an event may be published, in milliseconds. Default 366 days; at most 100 years. */
  readonly maxDelayMs?: number | undefined;
  /**
   * How long the connections of a server process that died still count as present, in milliseconds. Default 30 000; 100 to
   * a day. A living process renews them four times within that, by one small update however many they are.
   */
  readonly presenceLeaseMs?: number | undefined;
  /** How long a connection that ended still counts as present, in milliseconds: time to come back. Default 5 000; at most a day. */
  readonly presenceGraceMs?: number | undefined;
  /** How often the listener asks whether the server is still there, in milliseconds. Default 1 000. */
  readonly heartbeatMs?: number | undefined;
  /**
   * How long the server may take to answer the listener, or a notification to arrive, in milliseconds. Default 2 000: with
   * the heartbeat, a dead connection is noticed within three seconds.
   */
  readonly listenDeadlineMs?: number | undefined;
  /** After this long without a sign of life the server ends the listener's session, freeing its role. Default 10 000. */
  readonly idleSessionTimeoutMs?: number | undefined;
  /** Silent by default; pino fits. */
  readonly logger?: LoggerLike | undefined;
  /** Abandons connecting. */
  readonly signal?: AbortSignal | undefined;
}

export interface Settings extends Heartbeat, Addresses {
  readonly readConnectionString: string | undefined;
  readonly pool: PoolLike | undefined;
  readonly schema: string;
  readonly migrate: 'check' | 'apply';
  readonly relay: boolean;
  readonly autoCreate: boolean;
  readonly fallbackPollMs: number;
  readonly retentionIntervalMs: number;
  readonly appendTimeoutMs: number;
  readonly maxQueuedEvents: number;
  readonly maxQueuedBytes: number;
  readonly windowEvents: number;
  readonly windowBytes: number;
  readonly maxReads: number;
  readonly sharedPageBytes: number;
  readonly maxEventBytes: number;
  readonly maxDelayMs: number;
  readonly presenceLeaseMs: number;
  readonly presenceGraceMs: number;
  readonly logger: LoggerLike;
}

/** @throws TypeError, RangeError */
export function settle(
  options: ConnectOptions,
  environment: Readonly<Record<string, string | undefined>>,
): Settings {
  if (typeof options !== 'object' || options === null) {
    throw new TypeError('options must be an object, such as { connectionString }');
  }
  const { pool, schema = 'sluice', migrate = 'check' } = options;
  const addresses = addressesOf(options, environment);
  if (typeof schema !== 'string') throw new TypeError(`schema must be a string, not ${typeof schema}`);
  if (migrate !== 'check' && migrate !== 'apply') {
    throw new TypeError(`migrate must be 'check' or 'apply', not ${JSON.stringify(migrate)}`);
  }
  const heartbeat = heartbeatOf(options);
  return {
    ...addresses,
    readConnectionString: databaseUrl('readConnectionString', options.readConnectionString),
    pool: pool && requirePool(pool),
    schema,
    migrate,
    relay: flag('relay', options.relay ?? true),
    autoCreate: flag('autoCreate', options.autoCreate ?? true),
    fallbackPollMs: within('fallbackPollMs', options.fallbackPollMs ?? 5000, [10, DAY_MS]),
    retentionIntervalMs: within('retentionIntervalMs', options.retentionIntervalMs ?? 10_000, [10, DAY_MS]),
    appendTimeoutMs: within('appendTimeoutMs', options.appendTimeoutMs ?? 2000, [1, DAY_MS]),
    maxQueuedEvents: atLeast('maxQueuedEvents', options.maxQueuedEvents ?? 100_000, 1),
    maxQueuedBytes: atLeast('maxQueuedBytes', options.maxQueuedBytes ?? 256 * 2 ** 20, 1),
    windowEvents: atLeast('windowEvents', options.windowEvents ?? 2000, 1),
    windowBytes: atLeast('windowBytes', options.windowBytes ?? 8 * 2 ** 20, 1),
    maxReads: atLeast('maxReads', options.maxReads ?? 4, 1),
    sharedPageBytes: atLeast('sharedPageBytes', options.sharedPageBytes ?? 64 * 2 ** 20, 0),
    maxEventBytes: atLeast('maxEventBytes', options.maxEventBytes ?? 2 ** 20, 1),
    maxDelayMs: within('maxDelayMs', options.maxDelayMs ?? 366 * DAY_MS, [1, 36_525 * DAY_MS]),
    presenceLeaseMs: within('presenceLeaseMs', options.presenceLeaseMs ?? 30_000, [100, DAY_MS]),
    presenceGraceMs: within('presenceGraceMs', options.presenceGraceMs ?? 5000, [0, DAY_MS]),
    ...heartbeat,
    logger: loggerOf(options.logger),
  };
}

/** Where to send statements and where to listen: of one address alone, both there. */
export interface Addresses {
  readonly connectionString: string;
  readonly listenConnectionString: string;
}

/** @throws TypeError for what is no address, or if no database is named */
export function addressesOf(
  options: Pick<ConnectOptions, 'connectionString' | 'listenConnectionString' | 'pool'>,
  { DATABASE_URL = '' }: Readonly<Record<string, string | undefined>>,
): Addresses {
  const listen = databaseUrl('listenConnectionString', options.listenConnectionString);
  const connectionString =
    databaseUrl('connectionString', options.connectionString) ??
    (DATABASE_URL === '' ? undefined : databaseUrl('DATABASE_URL', DATABASE_URL)) ??
    listen;
  if (connectionString !== undefined) {
    return { connectionString, listenConnectionString: listen ?? connectionString };
  }
  throw new TypeError(
    options.pool
      ? 'listening needs a connection of its own beside the pool: give connectionString, or set DATABASE_URL'
      : 'no database is named: give connectionString, or set DATABASE_URL',
  );
}

/** How the listener finds out that its connection is dead. */
export interface Heartbeat {
  readonly heartbeatMs: number;
  readonly listenDeadlineMs: number;
  readonly idleSessionTimeoutMs: number;
}

/** @throws RangeError */
export function heartbeatOf(options: {
  readonly [Option in keyof Heartbeat]?: Heartbeat[Option] | undefined;
}): Heartbeat {
  const { heartbeatMs = 1000, listenDeadlineMs = 2000, idleSessionTimeoutMs = 10_000 } = options;
  within('heartbeatMs', heartbeatMs, [10, DAY_MS]);
  within('listenDeadlineMs', listenDeadlineMs, [10, DAY_MS]);
  within('idleSessionTimeoutMs', idleSessionTimeoutMs, [100, DAY_MS]);
  if (heartbeatMs * 2 > idleSessionTimeoutMs) {
    throw new RangeError(
      `heartbeatMs is ${heartbeatMs} and idleSessionTimeoutMs ${idleSessionTimeoutMs}: the server would end the listener between two heartbeats; give at least twice the heartbeat`,
    );
  }
  return { heartbeatMs, listenDeadlineMs, idleSessionTimeoutMs };
}

/** The longest that an option may make anything wait: timers hold it. */
const DAY_MS = 86_400_000;

/** "false" is true to JavaScript: what came out of the environment must not turn on what it was to turn off. */
function flag(name: string, value: boolean): boolean {
  if (typeof value === 'boolean') return value;
  throw new TypeError(`${name} is ${shown(value)}; give true or false`);
}

function atLeast(name: string, value: number, least: number): number {
  if (typeof value === 'number' && Number.isFinite(value) && value >= least) return value;
  throw new RangeError(`${name} is ${shown(value)}; give a number of at least ${least}`);
}
