// The slice of node-postgres that Sluice needs, typed structurally so that any pg.Pool or compatible one fits.

export interface QueryConfig {
  readonly text: string;
  readonly values?: unknown[];
  /** Prepared once per connection under this name. */
  readonly name?: string;
  readonly rowMode?: 'array';
  /** After so many milliseconds without an answer pg gives the connection up. */
  readonly query_timeout?: number;
}

export interface Queryable {
  query(config: QueryConfig): Promise<{ rows: unknown[] }>;
}

/** A pool to run Sluice's queries on, for example your own pg.Pool. */
export interface PoolLike extends Queryable {
  connect(): Promise<Queryable & { release(error?: Error | boolean): void }>;
}

/** @throws TypeError also for a single client, which would be asked for a second connection */
export function requirePool(pool: PoolLike): PoolLike {
  const isPool = typeof pool.query === 'function' && typeof pool.connect === 'function';
  if (isPool && !('getTransactionStatus' in pool) && !('processID' in pool)) return pool;
  throw new TypeError('pool must be a pool of connections with query() and connect(), such as a pg.Pool');
}

/**
 * Whatever can run a statement inside your open transaction: a pg client fits as it is, `sluice/adapters` makes one of
 * the transactions of other libraries. Parameters are `$1`, `$2` …; values are strings, booleans or null, which any
 * driver can send.
 */
export interface SqlExecutor {
  query(text: string, values: unknown[]): Promise<{ rows: unknown[] }>;
}
