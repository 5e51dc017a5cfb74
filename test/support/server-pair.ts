// Owns a primary and its hot standby: two real clusters, the standby a copy that streams from the primary over a link
// that tests can cut. Failing over puts the standby in the primary's place, at the primary's address, as operators do.
import { execFileSync } from 'node:child_process';
import { chownSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Pool } from 'pg';
import { migrate } from 'sluice';
import { startPostgres, type RunningPostgres, type StartPostgresOptions } from 'sluice/embedded';
import { until } from './diagnostics.ts';
import { makeDataFolder, removeFolder, serverPid } from './embedded-server.ts';
import { lossyPool } from './lossy-pool.ts';
import { createProxy, type Proxy } from './proxy.ts';

const settings = {
  fsync: 'off',
  max_connections: '100',
  wal_retrieve_retry_interval: '100ms',
  // A standby cancels what is in the way of replay at once, so that tests of that need not wait.
  max_standby_streaming_delay: '0',
};
type Settings = Readonly<Record<string, string>>;

/** With the binaries that the run is about, if it is about any (test/db/versions.long.test.ts). */
const startServer = (options: StartPostgresOptions): Promise<RunningPostgres> =>
  startPostgres({ ...options, binaries: process.env['SLUICE_TEST_BINARIES'] });

export class ServerPair implements AsyncDisposable {
  readonly #folder = makeDataFolder();
  readonly #settings: Settings;
  readonly #pools = new Map<string, Pool>();
  #primary!: RunningPostgres;
  #standby: RunningPostgres | undefined;
  #link!: Proxy;

  private constructor(more: Settings) {
    this.#settings = { ...settings, ...more };
  }

  /** Both running, Sluice installed, the standby streaming. */
  static async start(more: Settings = {}): Promise<ServerPair> {
    const pair = new ServerPair(more);
    try {
      await pair.#start();
      return pair;
    } catch (error) {
      await pair[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** The primary's address; after a failover that of its successor, which is the same. */
  get connectionString(): string {
    return this.#primary.connectionString;
  }
  get standbyConnectionString(): string {
    return this.#standby!.connectionString;
  }
  get primary(): Pool {
    return this.#poolOf(this.connectionString);
  }
  get standby(): Pool {
    return this.#poolOf(this.standbyConnectionString);
  }

  /** Nothing of what the primary writes from now on reaches the standby. */
  cutReplication(): void {
    this.#link.refuse();
    this.#link.cut();
  }

  /** Resolves when the standby shows all that the primary has written so far. */
  async caughtUp(): Promise<void> {
    await this.flush();
    const { rows } = await this.primary.query<{ lsn: string }>('select pg_current_wal_lsn()::text as lsn');
    await until(async () => {
      const replayed = 'select pg_last_wal_replay_lsn() >= $1::pg_lsn as reached';
      return (await this.standby.query<{ reached: boolean }>(replayed, [rows[0]!.lsn])).rows[0]!.reached;
    });
  }

  /** Sends the standby what transactions that are still open have written. */
  async flush(): Promise<void> {
    await this.primary.query(`select pg_logical_emit_message(true, 'test', '')`);
  }

  /** The primary dies, as by a crash. */
  async killPrimary(): Promise<void> {
    process.kill(serverPid(this.#primary.dataDir), 'SIGQUIT');
    await this.#primary.stop();
  }

  /** The standby goes away, and comes back at its address with `startStandby`. */
  async stopStandby(): Promise<void> {
    await this.#standby?.stop();
  }
  async startStandby(): Promise<void> {
    const { host, port } = this.#link;
    const { username, password } = new URL(this.connectionString);
    const primary_conninfo = `host=${host} port=${port} user=${username} password=${password}`;
    const dataDir = join(this.#folder, 'standby');
    this.#standby = await startServer({ dataDir, settings: { ...this.#settings, primary_conninfo } });
  }

  /** The standby becomes a primary of its own, at its own address. */
  async promote(): Promise<void> {
    await this.standby.query('select pg_promote()');
  }

  /** Promotes the standby and puts it in the place of the primary, which must be gone. */
  async takeOver(): Promise<void> {
    const { dataDir } = this.#standby!;
    const { port } = this.#primary;
    await this.promote();
    await this.stopStandby();
    this.#standby = undefined;
    this.#primary = await startServer({
      dataDir,
      port,
      settings: { ...this.#settings, synchronous_standby_names: '' },
    });
  }

  async #start(): Promise<void> {
    const dataDir = join(this.#folder, 'primary');
    const first = await startServer({ dataDir, settings });
    try {
      await migrate({ connectionString: first.connectionString });
    } finally {
      await first.stop();
    }
    const copy = join(this.#folder, 'standby');
    execFileSync('cp', ['-a', dataDir, copy]);
    const signal = join(copy, 'standby.signal');
    writeFileSync(signal, '');
    const { uid, gid } = statSync(copy);
    chownSync(signal, uid, gid);
    this.#primary = await startServer({ dataDir, settings: this.#settings });
    this.#link = await createProxy({ targetPort: this.#primary.port });
    await this.startStandby();
    await until(async () => {
      const { rowCount } = await this.primary.query(
        `select from pg_stat_replication where state = 'streaming'`,
      );
      return rowCount === 1;
    });
  }

  #poolOf(connectionString: string): Pool {
    const pool = this.#pools.get(connectionString) ?? lossyPool(connectionString);
    this.#pools.set(connectionString, pool);
    return pool;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#pools.values()].map((pool) => pool.end()));
    await this.#standby?.stop();
    await this.#primary?.stop();
    this.#link?.close();
    removeFolder(this.#folder);
  }
}
