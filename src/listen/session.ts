// One session of the listener: a pg connection that listens, with a heartbeat that notices a peer gone silent. It lives
// until it fails or is closed, once; the listener makes the next one. Statements run one after another, and none may
// take long or open a transaction: notifications are delivered only between statements, and never inside one.
import { Client } from 'pg';
import { quoteIdent } from '../db/names.ts';
import { SluiceError } from '../util/errors.ts';

export interface SessionOptions {
  readonly connectionString: string | undefined;
  /** How often the server is asked whether it is still there, in milliseconds. */
  readonly heartbeatMs: number;
  /** How long it may take to answer any statement, in milliseconds; after that the session counts as lost. */
  readonly deadlineMs: number;
  /** After this long without a statement the server itself ends the session, and with it every lock it holds. */
  readonly idleSessionTimeoutMs: number;
  onNotification(channel: string, payload: string, processId: number): void;
  /** The session is over, for whatever reason; called once. */
  onEnd(error: unknown): void;
}

export class Session {
  readonly #client: Client;
  readonly #options: SessionOptions;
  #heartbeat: NodeJS.Timeout | undefined;
  #tail: Promise<unknown> = Promise.resolve(); // statements queue here: overlapping queries on a client are deprecated
  #over = false;

  private constructor(options: SessionOptions) {
    this.#options = options;
    this.#client = new Client({
      connectionString: options.connectionString,
      application_name: 'sluice listener',
      connectionTimeoutMillis: options.deadlineMs * 2,
      keepAlive: true,
    });
    this.#client.on('error', (error) => this.#end(error));
    this.#client.on('end', () =>
      this.#end(new SluiceError('connection_lost', 'the server closed the listener connection')),
    );
    this.#client.on('notification', ({ channel, payload, processId }) =>
      options.onNotification(channel, payload ?? '', processId),
    );
  }

  /** Connects and listens to the channels; when it resolves, LISTEN is in force. */
  static async open(options: SessionOptions, channels: readonly string[]): Promise<Session> {
    const session = new Session(options);
    try {
      await session.#client.connect();
      const settings = `set idle_session_timeout = ${options.idleSessionTimeoutMs}; set default_transaction_isolation = 'read committed'`;
      await session.query(
        [settings, ...channels.map((channel) => `listen ${quoteIdent(channel)}`)].join('; '),
      );
    } catch (error) {
      session.#end(error);
      throw error;
    }
    session.#heartbeat = setInterval(
      () => void session.query('select 1').catch(() => {}),
      options.heartbeatMs,
    );
    session.#heartbeat.unref();
    return session;
  }

  /** Runs one statement; past the deadline the session ends. */
  query<Row = unknown>(text: string, values?: unknown[]): Promise<Row[]> {
    const result = this.#tail.then(async () => this.#run<Row>(text, values));
    this.#tail = result.catch(() => {});
    return result;
  }

  async #run<Row>(text: string, values?: unknown[]): Promise<Row[]> {
    if (this.#over) throw new SluiceError('connection_lost', 'the listener connection was lost');
    const late = setTimeout(() => {
      this.#end(
        new SluiceError('connection_lost', `the server did not answer within ${this.#options.deadlineMs} ms`),
      );
    }, this.#options.deadlineMs);
    try {
      const result = await (values ? this.#client.query(text, values) : this.#client.query(text));
      return result.rows as Row[];
    } finally {
      clearTimeout(late);
    }
  }

  /** Ends the session politely, so that its locks are free at once. */
  async close(): Promise<void> {
    if (this.#over) return;
    this.#over = true;
    clearInterval(this.#heartbeat);
    const late = setTimeout(() => this.#destroy(), this.#options.deadlineMs);
    await this.#client.end().catch(() => {});
    clearTimeout(late);
  }

  #end(error: unknown): void {
    if (this.#over) return;
    this.#over = true;
    clearInterval(this.#heartbeat);
    this.#destroy(error);
    this.#options.onEnd(error);
  }

  // end() would wait for a peer that may be gone; destroying the socket also fails the statement under way.
  #destroy(error?: unknown): void {
    this.#client.connection.stream.destroy(error instanceof Error ? error : undefined);
  }
}
