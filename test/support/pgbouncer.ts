// Owns a PgBouncer of a test's own: one process in front of the test server, on a free port of this machine, in the mode
// and with the number of server connections that the test is about, and otherwise as it comes. It can go away and come
// back at its address. Finding or installing it is pgbouncer-setup.ts; where that found none, tests report as skipped.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from 'pg';
import type { TestContext } from 'vitest';
import { credentials, serverAccount, type Account } from '../../src/embedded/account.ts';
import { freePort } from '../../src/embedded/port.ts';
import { targetOf, through } from './deaf-proxy.ts';
import { until } from './diagnostics.ts';

export interface PgBouncerOptions {
  /** Where it leads: it takes the place of this address, with the same user, password and databases. */
  readonly connectionString: string;
  /** When a client's server connection is given back. */
  readonly mode: 'session' | 'transaction';
  /** Server connections at most. Default 20. */
  readonly poolSize?: number | undefined;
}

const quoted = (text: string): string => `"${text.replaceAll('"', '""')}"`;

export class PgBouncer implements AsyncDisposable {
  readonly port: number;
  /** The database of the options, through the pooler. */
  readonly connectionString: string;
  readonly #folder: string;
  readonly #account: Account | undefined;
  #process: ChildProcess | undefined;
  #said = '';

  private constructor(
    { connectionString, mode, poolSize = 20 }: PgBouncerOptions,
    port: number,
    account: Account | undefined,
  ) {
    this.port = port;
    this.#account = account;
    this.connectionString = through(this, connectionString);
    this.#folder = mkdtempSync(join(tmpdir(), 'sluice-pgbouncer-'));
    const { targetHost, targetPort } = targetOf(connectionString);
    const { username, password } = new URL(connectionString);
    // The password itself, not a hash: with it the pooler logs in to the server, whatever that asks for.
    this.#write(
      'userlist.txt',
      [decodeURIComponent(username), decodeURIComponent(password)].map(quoted).join(' '),
    );
    this.#write(
      'pgbouncer.ini',
      '[databases]',
      `* = host=${targetHost} port=${targetPort}`,
      '[pgbouncer]',
      'listen_addr = 127.0.0.1',
      `listen_port = ${port}`,
      'unix_socket_dir =',
      'auth_type = scram-sha-256',
      `auth_file = ${join(this.#folder, 'userlist.txt')}`,
      `pool_mode = ${mode}`,
      `default_pool_size = ${poolSize}`,
      `stats_users = ${decodeURIComponent(username)}`, // may look at its console
      // Of the rest nothing is set, above all not ignore_startup_parameters: what a client may send is part of the test.
    );
    if (account) chownSync(this.#folder, account.uid, account.gid);
  }

  /** Ready for connections. Skips the test where there is no PgBouncer. */
  static async start(context: TestContext, options: PgBouncerOptions): Promise<PgBouncer> {
    if (process.env['PGBOUNCER_PATH'] === undefined) context.skip('no PgBouncer');
    // It refuses root, as PostgreSQL does.
    const pooler = new PgBouncer(options, await freePort(), await serverAccount());
    try {
      await pooler.start();
      return pooler;
    } catch (error) {
      await pooler[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Begins again at the same address, after `stop`. */
  async start(): Promise<void> {
    const child = spawn(process.env['PGBOUNCER_PATH']!, [join(this.#folder, 'pgbouncer.ini')], {
      cwd: this.#folder,
      stdio: ['ignore', 'ignore', 'pipe'],
      ...credentials(this.#account),
    });
    this.#process = child;
    child.stderr.setEncoding('utf8').on('data', (text: string) => (this.#said += text));
    await once(child, 'spawn');
    await until(async () => {
      if (child.exitCode !== null || child.signalCode !== null)
        throw new Error(`PgBouncer ended:\n${this.#said}`);
      return this.#answers();
    });
  }

  /** It goes away at once, with all connections. */
  async stop(): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const closed = once(child, 'close');
    child.kill('SIGKILL'); // from 1.23 on it waits for its clients when asked to end
    await closed;
  }

  /** How many clients it has, by its own account. */
  async clients(): Promise<number> {
    const url = new URL(this.connectionString);
    url.pathname = '/pgbouncer';
    const console = new Client({ connectionString: url.href });
    console.on('error', () => {});
    await console.connect();
    try {
      const { rows } = await console.query<{ database: string }>('show clients');
      return rows.filter(({ database }) => database !== 'pgbouncer').length;
    } finally {
      await console.end();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #answers(): Promise<boolean> {
    const client = new Client({ connectionString: this.connectionString });
    client.on('error', () => {});
    try {
      await client.connect();
      await client.query('select 1');
      return true;
    } catch {
      return false;
    } finally {
      await client.end().catch(() => {});
    }
  }

  #write(name: string, ...lines: string[]): void {
    const path = join(this.#folder, name);
    writeFileSync(path, `${lines.join('\n')}\n`, { mode: 0o600 });
    if (this.#account) chownSync(path, this.#account.uid, this.#account.gid);
  }
}
