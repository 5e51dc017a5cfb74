// What one call of a handler is given, and how that call goes: it ends once, by the handler, by its timeout, or because
// nobody waits for it any more. A handler that ignores its signal runs on unheard.
import type { Database } from '../db/database.ts';
import { timestamp } from '../db/timestamp.ts';
import { SluiceError } from '../util/errors.ts';
import { Acknowledgement } from './acknowledgement.ts';
import type { HeldLease } from './held-lease.ts';
import type { HandedOut } from './handed-out.ts';
import type { Failure } from './store.ts';
import type { Work } from './work-queue.ts';

/** One event in the hands of a consumer. */
export interface Item extends Work, HandedOut {
  readonly lease: HeldLease;
  /** To be handled with nothing beside it. */
  readonly alone: boolean;
}

export type Outcome =
  | { readonly kind: 'done' }
  | { readonly kind: 'failed'; readonly error: unknown }
  /** Its events go back, without a fault of theirs. */
  | { readonly kind: 'abandoned' };

export class Unit {
  readonly items: readonly Item[];
  readonly offsets: readonly bigint[];
  readonly beganAt: number = performance.now();
  readonly acknowledgement: Acknowledgement;
  /** Events of a batch that its handler said failed. */
  readonly failures: Map<bigint, Failure> = new Map();
  readonly #onEnd: (unit: Unit, outcome: Outcome) => void;
  #abort: AbortController | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isOver = false;

  constructor(database: Database, items: readonly Item[], onEnd: (unit: Unit, outcome: Outcome) => void) {
    this.items = items;
    this.offsets = items.map(({ record }) => record.offset);
    this.acknowledgement = new Acknowledgement(database, this.lease, () =>
      this.offsets.filter((offset) => !this.failures.has(offset)),
    );
    this.#onEnd = onEnd;
  }

  get lease(): HeldLease {
    return (this.items[0] as Item).lease;
  }

  /** One event, to be handled with nothing beside it. */
  get isAlone(): boolean {
    return (this.items[0] as Item).alone;
  }

  /** Acknowledged in a transaction of the handler's own: the database knows whether it has committed. */
  get isPromised(): boolean {
    return this.acknowledgement.isGiven && !this.acknowledgement.isCommitted;
  }

  /** Made when it is asked for: most handlers never do. */
  get signal(): AbortSignal {
    this.#abort ??= new AbortController();
    return this.#abort.signal;
  }

  /** @throws RangeError for an offset that is not in it */
  item(offset: bigint): Item {
    const item = this.items.find(({ record }) => record.offset === offset);
    if (item) return item;
    throw new RangeError(`offset ${offset} is not in this batch; give one of its events'`);
  }

  /** Starts the work; an exception is an outcome, whatever was thrown. */
  run(work: () => Promise<void>, timeoutMs: number | undefined): void {
    if (timeoutMs !== undefined) {
      this.#timer = setTimeout(() => {
        const error = new DOMException(`the handler took longer than ${timeoutMs} ms`, 'TimeoutError');
        this.#end({ kind: 'failed', error });
        this.abort(error);
      }, timeoutMs);
    }
    work().then(
      () => this.#end({ kind: 'done' }),
      (error: unknown) => this.#end({ kind: 'failed', error }),
    );
  }

  /** Tells the handler to stop. */
  abort(reason: unknown): void {
    this.#abort ??= new AbortController();
    this.#abort.abort(reason);
  }

  /** Waits for it no longer. */
  abandon(reason: unknown): void {
    this.#end({ kind: 'abandoned' });
    this.abort(reason);
  }

  fail(offset: bigint, error: string, retryAt: Date | undefined): void {
    this.item(offset);
    if (this.acknowledgement.offsets) {
      throw new SluiceError('lease_lost', 'the batch was acknowledged already; say what failed before');
    }
    if (this.#isOver)
      throw new SluiceError('lease_lost', 'the batch is over; say what failed before its handler ends');
    if (retryAt) timestamp('retryAt', retryAt); // refused here, while somebody can mend it
    this.failures.set(offset, { offset, error, retryAt });
  }

  #end(outcome: Outcome): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.acknowledgement.end();
    clearTimeout(this.#timer);
    this.#onEnd(this, outcome);
  }
}
