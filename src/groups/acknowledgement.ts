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
    const client = await translated(async () => this.#database.pool.connect());
    let broken: boolean | Error = false;
    try {
      await translated(async () => client.query({ text: 'begin' }));
      const result = await fn(client as unknown as SqlExecutor);
      await ackEvents(this.#database, this.#lease.token, this.#offsets, client as unknown as SqlExecutor);
      this.isInDoubt = true; // until the answer is there
      await translated(async () => client.query({ text: 'commit' }));
      this.isGiven = true;
      return result;
    } catch (error) {
      broken = await client.query({ text: 'rollback' }).then(
        () => false,
        () => true,
      );
      throw error;
    } finally {
      client.release(broken);
    }
  }

  #requireOnce(): void {
    if (!this.isGiven) return;
    throw new SluiceError('lease_lost', 'this was acknowledged already; acknowledge once');
  }
}
