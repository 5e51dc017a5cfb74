// Acknowledging inside a transaction, and what is known of how that transaction ended.
import type { Database } from '../db/database.ts';
import type { SqlExecutor } from '../db/queryable.ts';
import { translated } from '../db/sqlstate.ts';
import { SluiceError } from '../util/errors.ts';
import type { HeldLease } from './held-lease.ts';
import { ackEvents } from './store.ts';

/** How acknowledging in a transaction went, of what a handler was given together. */
export class Acknowledgement {
  readonly #database: Database;
  readonly #lease: HeldLease;
  readonly #offsets: readonly bigint[];
  /** It was said that they are done. */
  isGiven = false;
  /** Their transaction has committed, as far as we ran it ourselves. */
  isCommitted = false;
  /** A transaction may have committed it, or may yet. */
  isInDoubt = false;

  constructor(database: Database, lease: HeldLease, offsets: readonly bigint[]) {
    this.#database = database;
    this.#lease = lease;
    this.#offsets = offsets;
  }

  async ack(tx: SqlExecutor): Promise<void> {
    this.#requireOnce();
    this.isInDoubt = true;
    await ackEvents(this.#database, this.#lease.token, this.#offsets, tx);
    this.isGiven = true;
  }

  async transaction<R>(fn: (tx: SqlExecutor) => Promise<R>): Promise<R> {
    this.#requireOnce();
    return this.#database.transactions.run(async () => this.#transaction(fn));
  }

  async #transaction<R>(fn: (tx: SqlExecutor) => Promise<R>): Promise<R> {
    const client = await translated(async () => this.#database.pool.connect());
    const unhear = ignoreLoss(client);
    let broken: boolean | Error = false;
    try {
      await translated(async () => client.query({ text: 'begin' }));
      const result = await fn(client as unknown as SqlExecutor);
      await ackEvents(this.#database, this.#lease.token, this.#offsets, client as unknown as SqlExecutor);
      this.isInDoubt = true; // until the answer is there
      await translated(async () => client.query({ text: 'commit' }));
      this.isGiven = true;
      this.isCommitted = true;
      return result;
    } catch (error) {
      broken = await client.query({ text: 'rollback' }).then(
        () => false,
        () => true,
      );
      throw error;
    } finally {
      unhear();
      client.release(broken);
    }
  }

  #requireOnce(): void {
    if (!this.isGiven) return;
    throw new SluiceError('lease_lost', 'this was acknowledged already; acknowledge once');
  }
}

// A connection that is lost between two statements says so in an event as well, which unheard would end the process.
// The next statement fails for it.
function ignoreLoss(client: object): () => void {
  if (!isEmitter(client)) return () => {};
  const ignore = (): void => {};
  client.on('error', ignore);
  return () => client.off('error', ignore);
}

type Emitter = Record<'on' | 'off', (event: 'error', listener: () => void) => unknown>;
const isEmitter = (client: object): client is Emitter => 'on' in client && 'off' in client;
