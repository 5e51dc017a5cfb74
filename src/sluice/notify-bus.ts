// A bus without the rest of Sluice: its listener, and a small pool to send over. Nothing has to be installed.
import { Database } from '../db/database.ts';
import { requirePool, type PoolLike } from '../db/queryable.ts';
import { Bus, type NotifyBus } from '../listen/bus.ts';
import { Listener } from '../listen/listener.ts';
import { notifyIfRoom } from '../listen/notify.ts';
import { deadline } from '../util/deadline.ts';
import { deferred } from '../util/deferred.ts';
import { loggerOf, type LoggerLike } from '../util/logger.ts';
import { environment } from './environment.ts';
import { addressesOf, heartbeatOf } from './options.ts';

/** How to reach the database, and what to listen to from the start. */
export interface NotifyBusOptions {
  /** Default: the environment's DATABASE_URL. */
  readonly connectionString?: string | undefined;
  /** A direct URL for LISTEN, when `connectionString` goes through a transaction pooler. */
  readonly listenConnectionString?: string | undefined;
  /** Your own pg.Pool to send notifications on; default: one of at most two connections, opened when needed. */
  readonly pool?: PoolLike | undefined;
  /** Listened to from the start, and as long as the bus is open. Others are added by subscribing. */
  readonly channels?: readonly string[] | undefined;
  /** How often the server is asked whether it is still there, in milliseconds. Default 1 000. */
  readonly heartbeatMs?: number | undefined;
  /**
   * How long it may take to answer, or a notification to arrive, in milliseconds; when the bus is closed, also what is
   * still being sent. Default 2 000.
   */
  readonly listenDeadlineMs?: number | undefined;
  /** After this long without a sign of life the server ends the session. Default 10 000. */
  readonly idleSessionTimeoutMs?: number | undefined;
  /** Told of everything that fails in the background. Default: silent. */
  readonly logger?: LoggerLike | undefined;
}

/** Connections for sending: one for the heartbeat's, one for everybody else's. */
const MAX_CONNECTIONS = 2;

/**
 * A bus of its own. Connects once there is something to listen to or to send: at once if channels are given.
 *
 * @throws TypeError if no database is named; RangeError for numbers out of range; SluiceError name_invalid
 * @example
 * await using bus = createNotifyBus({ connectionString });
 * await bus.notify('orders', '{"id":1}');
 */
export function createNotifyBus(options: NotifyBusOptions = {}): NotifyBus {
  const { channels } = options;
  const pool = options.pool && requirePool(options.pool);
  const logger = loggerOf(options.logger);
  const { connectionString, listenConnectionString } = addressesOf(options, environment());
  const { listenDeadlineMs: deadlineMs, ...heartbeat } = heartbeatOf(options);
  const database = new Database({
    connectionString,
    pool,
    schema: 'sluice',
    prepare: () => listenConnectionString === connectionString && listener.connected, // as in core
    maxConnections: MAX_CONNECTIONS,
    logger,
  });
  const listener = new Listener({
    connectionString: listenConnectionString,
    ...heartbeat,
    deadlineMs,
    logger,
    send: async (channel, payload) => notifyIfRoom(database, channel, payload),
  });
  const closeConnections = async (): Promise<void> => {
    await listener.close();
    const late = deferred();
    const closed = deadline(deadlineMs, () => {
      database.cutOff();
      late.resolve();
    });
    await Promise.race([database.close(), late.promise]);
    closed();
  };
  return new Bus({ listener, database, logger, closeConnections }, channels);
}
