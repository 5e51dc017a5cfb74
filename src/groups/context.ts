// What a handler gets beside its events: the signal to stop, more time, and acknowledging inside a transaction, which
// makes its effects happen exactly once.
import type { SqlExecutor } from '../db/queryable.ts';
import type { StreamEvent } from '../log/event.ts';
import { within } from '../util/bounds.ts';
import { LEASE_MS } from './options.ts';
import { errorText } from './error-text.ts';
import type { Unit } from './unit.ts';

interface Context {
  /** Aborts when the handler has taken too long, its lease is lost, or consuming ends and it has not finished in time. */
  readonly signal: AbortSignal;
  /**
   * Makes the lease last for `ms` milliseconds from now, at least. It is extended by itself while a handler runs; this is for who
   * wants to know that it still holds.
   *
   * @throws SluiceError lease_lost
   */
  extend(this: void, ms: number): Promise<void>;
  /**
   * Acknowledges in your transaction: what it writes and that this was handled are committed together, or not at all. Of a
   * batch, all but what was said to have failed. Commit before the handler resolves.
   *
   * @throws SluiceError lease_lost: roll back, it is not this handler's any more; tx_required
   * @throws RangeError if all of a batch was said to have failed
   */
  ack(this: void, options: { readonly tx: SqlExecutor }): Promise<void>;
  /**
   * Runs `fn` in a transaction that acknowledges, on a connection of the pool, and commits it.
   *
   * @throws what `fn` throws, after a rollback; SluiceError lease_lost; connection_lost: it may have committed
   * @example
   * await transaction((tx) => tx.query('insert into invoices …', [event.data.id]));
   */
  transaction<R>(this: void, fn: (tx: SqlExecutor) => Promise<R>): Promise<R>;
}

export interface HandlerContext extends Context {
  /** How often the event was handed out, this time included. */
  readonly attempt: number;
}

export interface BatchContext extends Context {
  /** How often an event of the batch was handed out, this time included. @throws RangeError for any other */
  attempt(this: void, offset: bigint): number;
  /**
   * Says that one event of the batch failed; the others are done if the handler resolves.
   *
   * @throws RangeError for one that is not in the batch
   */
  fail(this: void, offset: bigint, error: unknown, options?: { readonly retryAt?: Date | undefined }): void;
}

export type EventHandler<T> = (event: StreamEvent<T>, context: HandlerContext) => Promise<void>;
export type BatchHandler<T> = (events: StreamEvent<T>[], context: BatchContext) => Promise<void>;

/** The members are closures, so that a handler may take them out of the context. */
export const eventContext = (unit: Unit, attempt: number): HandlerContext => ({
  attempt,
  get signal() {
    return unit.signal;
  },
  extend: async (ms) => unit.lease.extend(within('ms', ms, LEASE_MS)),
  ack: async ({ tx }) => unit.acknowledgement.ack(tx),
  transaction: async (fn) => unit.acknowledgement.transaction(fn),
});

export const batchContext = (unit: Unit): BatchContext => ({
  get signal() {
    return unit.signal;
  },
  attempt: (offset) => unit.item(offset).attempt,
  fail: (offset, error, { retryAt } = {}) => unit.fail(offset, errorText(error), retryAt),
  extend: async (ms) => unit.lease.extend(within('ms', ms, LEASE_MS)),
  ack: async ({ tx }) => unit.acknowledgement.ack(tx),
  transaction: async (fn) => unit.acknowledgement.transaction(fn),
});
