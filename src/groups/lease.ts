// A lease in the hands of a user: events to be handled, and acknowledged or given back before it expires.
import type { Database } from '../db/database.ts';
import type { SqlExecutor } from '../db/queryable.ts';
import type { StreamEvent } from '../log/event.ts';
import { within } from '../util/bounds.ts';
import { errorText } from './error-text.ts';
import { LEASE_MS } from './options.ts';
import { settleLease, type Failure, type FailurePolicy, type Settled, type Settlement } from './store.ts';

/** Events of a group that nobody else is handed until `expiresAt`. */
export interface Lease<T> {
  readonly events: StreamEvent<T>[];
  /** By the server's clock. Past it, everything below fails with `lease_lost`. */
  readonly expiresAt: Date;
  /** How often an event was handed out, this time included. @throws RangeError for one that is not in the lease */
  attempt(offset: bigint): number;
  /**
   * Ends the lease: all its events are handled, but for those that failed. In your transaction (`tx`), with what it
   * writes.
   *
   * @throws SluiceError lease_lost: nothing has changed, and a transaction must be rolled back; tx_required
   * @throws RangeError for an offset that is not in the lease
   */
  ack(options?: AckOptions): Promise<void>;
  /** Makes it last for `ms` milliseconds from now, at least. @throws SluiceError lease_lost */
  extend(ms: number): Promise<void>;
  /** Returns the events to the group; this attempt does not count. @throws SluiceError lease_lost */
  release(): Promise<void>;
}

export interface AckOptions {
  readonly failed?:
    | readonly { readonly offset: bigint; readonly error: unknown; readonly retryAt?: Date | undefined }[]
    | undefined;
  readonly tx?: SqlExecutor | undefined;
}

export interface LeaseFacts<T> {
  readonly database: Database;
  readonly token: string;
  readonly policy: FailurePolicy;
  readonly events: StreamEvent<T>[];
  readonly attempts: ReadonlyMap<bigint, number>;
  readonly expiresAt: number;
  /** Some of it is to be had again, by whoever is there. */
  onReturned(): void;
  /** So many were given up; not told of what a transaction of the user's does, which may be undone. */
  onDead(count: number): void;
}

export class LeaseHandle<T> implements Lease<T> {
  readonly #facts: LeaseFacts<T>;
  readonly events: StreamEvent<T>[];
  #expiresAt: number;

  constructor(facts: LeaseFacts<T>) {
    this.#facts = facts;
    this.events = facts.events;
    this.#expiresAt = facts.expiresAt;
  }

  get expiresAt(): Date {
    return new Date(this.#expiresAt);
  }

  attempt(offset: bigint): number {
    const attempt = this.#facts.attempts.get(offset);
    if (attempt !== undefined) return attempt;
    throw new RangeError(`offset ${offset} is not in this lease; give one of its events'`);
  }

  async ack({ failed = [], tx }: AckOptions = {}): Promise<void> {
    const failures = new Map<bigint, Failure>(); // named twice, an event fails once, and as was said last
    for (const { offset, error, retryAt } of failed) {
      this.attempt(offset);
      failures.set(offset, { offset, error: errorText(error), retryAt });
    }
    const { dead } = await this.#settle({ done: 'rest', failed: [...failures.values()] }, tx);
    if (failures.size > 0) this.#facts.onReturned();
    if (dead > 0 && tx === undefined) this.#facts.onDead(dead);
  }

  async extend(ms: number): Promise<void> {
    const { expiresAt } = await this.#settle({ extendMs: within('ms', ms, LEASE_MS) });
    this.#expiresAt = expiresAt;
  }

  async release(): Promise<void> {
    await this.#settle({ returned: this.events.map(({ offset }) => offset) });
    this.#facts.onReturned();
  }

  #settle(settlement: Settlement, tx?: SqlExecutor): Promise<Settled> {
    const { database, token, policy } = this.#facts;
    return settleLease(database, { token, settlement, policy }, tx);
  }
}
