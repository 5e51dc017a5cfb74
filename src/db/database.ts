// The process's way to the database for everything but listening: a pool (our own or the user's), the names derived
// from the schema, and the one place where driver errors become SluiceErrors.
import { Client, Pool, type ClientBase, type ClientConfig } from 'pg';
import { deferred, type Deferred } from '../util/deferred.ts';
import { Slots } from '../util/slots.ts';
import { SluiceError } from '../util/errors.ts';
import { report } from '../util/diagnostics.ts';
import type { LoggerLike } from '../util/logger.ts';
import { endpointOf } from './endpoint.ts';
import { namesFor, type Names } from './names.ts';
import type { PoolLike, QueryConfig } from './queryable.ts';
import { translated } from './sqlstate.ts';

export interface DatabaseOptions {
  readonly connectionString: string | undefined;
  readonly pool: PoolLike | undefined;
  readonly schema: string;
  /** Asked before each statement: whether it may stay prepared on its connection, which a transaction pooler forgets. */
  prepare(this: void): boolean;
  /** A server that does not answer for this long counts as lost, in milliseconds. Default 60 000. */
  readonly deadlineMs?: number | undefined;
  /** Of the pool, if it is ours. Default 10. */
  readonly maxConnections?: number | undefined;
  readonly logger: LoggerLike;
}

const MAX_CONNECTIONS = 10;
/** Connections of the pool that handlers' transactions leave free. */
const SPARE_CONNECTIONS = 2;
/** So that nothing waits for ever on a dead peer. */
const DEADLINE_MS = 60_000;
const CONNECT_TIMEOUT_MS = 10_000;

// Offsets cannot be assigned at a higher level (require_read_committed), which may be the database's default. Only where
// the server process is the one that was announced: behind a pooler, which makes one up, a setting would outlive our
// turn and meet somebody else's. The pool awaits it, though its type does not say so.
const readCommitted = (client: ClientBase): unknown =>
  client.query(
    `select set_config('default_transaction_isolation', 'read committed', false) where pg_backend_pid() = $1`,
    [(client as ClientBase & { readonly processID: number | null }).processID],
  );

export class Database {
  readonly names: Names;
  readonly pool: PoolLike;
  /** For work that holds a connection for long: some of the pool stay free for statements that somebody waits for. */
  readonly transactions: Slots;
  readonly #prepare: () => boolean;
  readonly #endpoint: string | undefined;
  readonly #own: Pool | undefined;
  /** Those of our own pool, also while they connect. */
  readonly #clients = new Set<{ cut(): void }>();
  #isCutOff = false;
  #closing: Promise<void> | undefined;
  #running = 0;
  #idle: Deferred<void> | undefined;

  constructor(options: DatabaseOptions) {
    const { connectionString, pool, schema, prepare, deadlineMs = DEADLINE_MS, logger } = options;
    const { maxConnections = MAX_CONNECTIONS } = options;
    this.names = namesFor(schema);
    this.#endpoint = endpointOf({ connectionString });
    const sameWay = !pool || this.#isOurWay('options' in pool ? (pool.options as object) : undefined);
    this.#prepare = () => sameWay && prepare();
    if (!pool) {
      this.#own = new Pool({
        connectionString,
        max: maxConnections,
        application_name: 'sluice',
        connectionTimeoutMillis: Math.min(deadlineMs, CONNECT_TIMEOUT_MS),
        query_timeout: deadlineMs,
        keepAlive: true,
        allowExitOnIdle: true,
        onConnect: readCommitted,
        Client: this.#clientClass(),
      });
      // One that dies in somebody's hands says so in an event as well, perhaps before they have seen it: the next statement
      // fails for it, and unheard it would end the process.
      this.#own.on('connect', (client) => client.on('error', () => {}));
      // A connection that dies while idle: the next query opens another one.
      this.#own.on('error', (error) => {
        if (this.#closing) return; // the pool's end() resolves before its last sockets are gone
        logger.warn({ error }, 'an idle connection was lost');
        report('sluice:background.failed', () => ({ where: 'pool', error }));
      });
    }
    this.pool = pool ?? (this.#own as Pool);
    this.transactions = new Slots(Math.max(1, (maxOf(this.pool) ?? MAX_CONNECTIONS) - SPARE_CONNECTIONS));
  }

  /** Runs one statement. `name` keeps it prepared where that is possible. */
  async query<Row>(text: string, values: unknown[] = [], name?: string): Promise<Row[]> {
    return this.#run<Row>(this.#statement(text, values, name));
  }

  /** Like query, with rows as arrays: for the statements that return many. */
  async rows<Row extends unknown[]>(text: string, values: unknown[], name: string): Promise<Row[]> {
    return this.#run<Row>({ ...this.#statement(text, values, name), rowMode: 'array' });
  }

  /** Resolves when the server has answered; a connection that has not within `ms` is given up. */
  async ping(ms: number): Promise<void> {
    await this.#run({ ...this.#statement('select 1', [], 'sluice_ping'), query_timeout: ms });
  }

  /** A statement for a user's pg client: prepared if the client takes the same way to the server as we do. */
  statementFor(client: object, text: string, values: unknown[], name: string): QueryConfig {
    return this.#isOurWay(client) ? this.#statement(text, values, name) : { text, values };
  }

  #isOurWay(connection: object | undefined): boolean {
    return this.#endpoint !== undefined && endpointOf(connection) === this.#endpoint;
  }

  // Prepared under its name, a statement costs no parsing and planning again.
  #statement(text: string, values: unknown[], name: string | undefined): QueryConfig {
    return name !== undefined && this.#prepare()
      ? { text, values, name: `${name}_${this.names.suffix}` }
      : { text, values };
  }

  async #run<Row>(config: QueryConfig): Promise<Row[]> {
    if (this.#closing) throw new SluiceError('closed', 'this Sluice is closed');
    this.#running += 1;
    try {
      return await translated(async () => (await this.pool.query(config)).rows as Row[]);
    } finally {
      this.#running -= 1;
      if (this.#running === 0) this.#idle?.resolve();
    }
  }

  /** Refuses new statements, waits for those accepted, and ends the pool if it is ours. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /**
   * For who closes and waits no longer: all that was accepted and has no answer fails with connection_lost, unless the pool
   * is a user's.
   */
  cutOff(): void {
    this.#isCutOff = true;
    for (const client of this.#clients) client.cut();
  }

  // A pool tells neither of clients that connect nor of those it makes for who waits in its queue, and a client's own end()
  // would wait for a server that is silent.
  #clientClass(): new () => ClientBase {
    const clients = this.#clients;
    const isCutOff = (): boolean => this.#isCutOff;
    return class extends Client {
      constructor(config?: ClientConfig) {
        super(config);
        clients.add(this);
        this.once('end', () => clients.delete(this));
        if (isCutOff()) queueMicrotask(() => this.cut()); // once it connects
      }

      cut(): void {
        (this as unknown as HasSocket).connection.stream.destroy();
      }
    };
  }

  // The pool's end() would leave the statements that wait for a connection without an answer.
  async #close(): Promise<void> {
    if (this.#running > 0) {
      this.#idle = deferred();
      await this.#idle.promise;
    }
    await this.#own?.end();
  }
}

/** What pg's types leave out. */
interface HasSocket {
  readonly connection: { readonly stream: { destroy(): void } };
}

/** How many connections a pool has at most, if it says so as pg's does. */
function maxOf(pool: object): number | undefined {
  const options: unknown = 'options' in pool ? pool.options : undefined;
  const max: unknown =
    typeof options === 'object' && options !== null && 'max' in options ? options.max : undefined;
  return typeof max === 'number' ? max : undefined;
}
