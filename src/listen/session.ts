// One session of the listener: a pg connection that listens, with a heartbeat that notices a peer gone silent and a
// server process swapped behind the connection. It lives until it fails or is closed, once; the listener makes the next
// one. Statements run one after another, and none may take long or open a transaction: notifications are delivered only
// between statements, and never inside one.
import type { Duplex } from 'node:stream';
import { Client } from 'pg';
import { fromDatabase } from '../db/sqlstate.ts';
import { deadline } from '../util/deadline.ts';
import { SluiceError } from '../util/errors.ts';
import { Sieve, type SieveEvents } from './sieve.ts';

export interface SessionOptions {
  readonly connectionString: string | undefined;
  /** How often the server is asked whether it is still there, in milliseconds. */
  readonly heartbeatMs: number;
  /** How long it may take to answer any statement while nothing is heard, in milliseconds; after that the session counts as lost. */
  readonly deadlineMs: number;
  /** After this long without a statement the server itself ends the session, and with it every lock it holds. */
  readonly idleSessionTimeoutMs: number;
  onNotification(channel: string, payload: string, processId: number): void;
  /** After each heartbeat. */
  onBeat(beat: Beat): void;
  /** The session is over, for whatever reason but being closed; called once. */
  onEnd(error: unknown): void;
  /** Ends it at once, unless it goes through a pooler. */
  readonly signal: AbortSignal;
}

export interface Beat {
  /** How much of the server's queue of notifications is in use, 0 to 1. */
  readonly queueUsage: number;
  readonly roundTripMs: number;
}

const HEARTBEAT = 'select pg_backend_pid() as pid, pg_notification_queue_usage() as usage';
const KEEP_ALIVE_MS = 5000;

export class Session {
  readonly #client: Client;
  readonly #options: SessionOptions;
  #backendPid = 0;
  #heartbeat: NodeJS.Timeout | undefined;
  #heard = 0;
  #tail: Promise<unknown> = Promise.resolve(); // statements queue here: overlapping queries on a client are deprecated
  #over = false;

  private constructor(options: SessionOptions) {
    this.#options = options;
    this.#client = new Client({
      connectionString: options.connectionString,
      application_name: 'sluice listener',
      connectionTimeoutMillis: options.deadlineMs * 2,
      keepAlive: true,
      keepAliveInitialDelayMillis: KEEP_ALIVE_MS,
    });
    options.signal.addEventListener('abort', this.#onAbort, { once: true });
    this.#client.on('error', (error) => this.end(error));
    this.#client.on('end', () =>
      this.end(new SluiceError('connection_lost', 'the server closed the listener connection')),
    );
    const onNotification: SieveEvents['onNotification'] = (channel, payload, processId) => {
      this.#heard += 1;
      if (!this.#over) options.onNotification(channel, payload, processId);
    };
    siftNotifications(this.#client, onNotification);
    this.#client.on('notification', ({ channel, payload, processId }) => {
      onNotification(channel, payload ?? '', processId); // what the sieve let through
    });
  }

  /** Connects to a primary; nothing is listened to yet. @throws SluiceError unsupported_server */
  static async open(options: SessionOptions): Promise<Session> {
    const session = new Session(options);
    try {
      await session.#client.connect();
      const [server] = await session.query<{ pid: number; standby: boolean }>(
        'select pg_backend_pid() as pid, pg_is_in_recovery() as standby',
      );
      if (server?.standby === true) {
        throw new SluiceError(
          'unsupported_server',
          'the listener has reached a hot standby, which has no notifications; give the address of the primary as listenConnectionString',
        );
      }
      session.#backendPid = server?.pid ?? 0;
    } catch (error) {
      session.end(error);
      throw error;
    }
    return session;
  }

  /** Whether something stands in between: a pooler makes up the process id that it announces. */
  get pooled(): boolean {
    const { processID } = this.#client as Client & { readonly processID: number | null };
    return processID !== this.#backendPid;
  }

  get over(): boolean {
    return this.#over;
  }

  /**
   * Makes the session ours for good: only now, because behind a pooler in transaction mode its settings would be other
   * people's.
   */
  async keep(): Promise<void> {
    const { idleSessionTimeoutMs, heartbeatMs } = this.#options;
    await this.query(
      `set idle_session_timeout = ${idleSessionTimeoutMs}; set default_transaction_isolation = 'read committed'`,
    );
    if (this.#over) return;
    let beating = false;
    this.#heartbeat = setInterval(() => {
      if (beating) return; // behind a flood one is enough: more would only queue
      beating = true;
      void this.#beat().finally(() => (beating = false));
    }, heartbeatMs);
    this.#heartbeat.unref();
  }

  /** Runs one statement; past the deadline the session ends. */
  query<Row = unknown>(text: string, values?: unknown[]): Promise<Row[]> {
    const result = this.#tail.then(async () => this.#run<Row>(text, values));
    this.#tail = result.catch(() => {});
    return result;
  }

  async #beat(): Promise<void> {
    const started = performance.now();
    const [server] = await this.query<{ pid: number; usage: number }>(HEARTBEAT).catch(() => []); // it has ended
    if (!server || this.#over) return;
    if (server.pid !== this.#backendPid) {
      const swapped = `the server process behind the listener connection changed from ${this.#backendPid} to ${server.pid}`;
      this.end(new SluiceError('connection_lost', swapped));
      return;
    }
    this.#options.onBeat({ queueUsage: server.usage, roundTripMs: performance.now() - started });
  }

  async #run<Row>(text: string, values?: unknown[]): Promise<Row[]> {
    if (this.#over) throw new SluiceError('connection_lost', 'the listener connection was lost');
    const answered = this.#expectAnswer();
    try {
      const result = await (values ? this.#client.query(text, values) : this.#client.query(text));
      return result.rows as Row[];
    } catch (error) {
      // Said in the place of an answer, a moment before the socket ends: nobody may take it for one.
      const failure = fromDatabase(error);
      if (failure instanceof SluiceError && failure.code === 'connection_lost') this.end(error);
      throw error;
    } finally {
      answered();
    }
  }

  /**
   * An answer may stand behind a flood of notifications: while they come the peer is not gone. That holds as long as the
   * server itself would wait, so that a connection that carries one direction alone is not kept.
   */
  #expectAnswer(): () => void {
    const { deadlineMs, idleSessionTimeoutMs } = this.#options;
    const asked = performance.now();
    let heard = this.#heard;
    let answered = (): void => {};
    const wait = (): void => {
      answered = deadline(deadlineMs, () => {
        const waited = performance.now() - asked;
        if (this.#heard === heard || waited >= idleSessionTimeoutMs) {
          const text = `the server did not answer within ${Math.round(waited)} ms`;
          return this.end(new SluiceError('connection_lost', text));
        }
        heard = this.#heard;
        wait();
      });
    };
    wait();
    return () => answered();
  }

  /** Ends the session politely, so that its locks are free at once. */
  async close(): Promise<void> {
    if (this.#over) return;
    this.#stop();
    const ended = deadline(this.#options.deadlineMs, () => this.#destroy());
    await this.#client.end().catch(() => {});
    ended();
  }

  /** Ends it at once. */
  end(error: unknown): void {
    if (this.#over) return;
    this.#stop();
    this.#destroy(error);
    this.#options.onEnd(error);
  }

  // Behind a pooler there may be a LISTEN to take back first; its owner looks at the signal too.
  readonly #onAbort = (): void => {
    if (this.#backendPid === 0 || !this.pooled) this.end(this.#options.signal.reason);
  };

  #stop(): void {
    this.#over = true;
    clearInterval(this.#heartbeat);
    this.#options.signal.removeEventListener('abort', this.#onAbort);
  }

  // The client's end() would wait for a peer that may be gone; destroying the socket also fails the statement under way.
  #destroy(error?: unknown): void {
    this.#client.connection.stream.destroy(error instanceof Error ? error : undefined);
  }
}

/** What the driver hands its stream to, as soon as only messages of the protocol come over it. No public part of it. */
interface Driver {
  attachListeners?(stream: Duplex): void;
}

/**
 * Puts a sieve between the stream and the driver, if the driver attaches to it as it does today. Otherwise it has all
 * bytes as before, and tells of notifications itself, later.
 */
function siftNotifications(client: Client, onNotification: SieveEvents['onNotification']): void {
  const driver = client.connection as Client['connection'] & Driver;
  const attach = driver.attachListeners?.bind(driver);
  if (!attach) return;
  driver.attachListeners = (stream) => {
    const on = (event: string, listener: (...args: unknown[]) => void): Duplex => {
      if (event !== 'data') return stream.on(event, listener);
      const sieve = new Sieve({ onNotification, onOther: listener });
      return stream.on('data', (chunk: Buffer) => sieve.push(chunk));
    };
    const get = (_: Duplex, name: string | symbol): unknown => {
      const member: unknown = name === 'on' ? on : Reflect.get(stream, name);
      return typeof member === 'function' ? member.bind(stream) : member;
    };
    attach(new Proxy(stream, { get }));
  };
}
