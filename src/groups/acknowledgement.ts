// Acknowledging inside a transaction, and what is known of how that transaction ended.
import type { Database } from '../db/database.ts';
import { driverErrorOf } from '../db/driver-error.ts';
import type { SqlExecutor } from '../db/queryable.ts';
import { translated } from '../db/sqlstate.ts';
import { deferred } from '../util/deferred.ts';
import { SluiceError } from '../util/errors.ts';
import type { HeldLease } from './held-lease.ts';
import { ackEvents } from './store.ts';

/** How acknowledging in a transaction went, of what a handler was given together. */
export class Acknowledgement {
  readonly #database: Database;
  readonly #lease: HeldLease;
  readonly #wanted: () => readonly bigint[];
  /** Of which this is said; undefined: of none. */
  offsets: readonly bigint[] | undefined;
  /** It was said that they are done. */
  isGiven = false;
  /** Their transaction has committed, as far as we ran it ourselves. */
  isCommitted = false;
  /** A transaction may have committed it, or may yet. */
  isInDoubt = false;
  /** The handler has ended, or nobody waits for it: what becomes of its events is recorded. */
  #isOver = false;
  readonly #over = deferred();
  #isUnderWay = false;
  #mayHaveCommitted = false;

  /** `wanted`: the offsets, when it comes to that. */
  constructor(database: Database, lease: HeldLease, wanted: () => readonly bigint[]) {
    this.#database = database;
    this.#lease = lease;
    this.#wanted = wanted;
  }

  async ack(tx: SqlExecutor): Promise<void> {
    await this.#once(async () => {
      await this.#acknowledge(tx);
      this.isGiven = true;
    });
  }

  async transaction<R>(fn: (tx: SqlExecutor) => Promise<R>): Promise<R> {
    return this.#once(async () => this.#database.transactions.run(async () => this.#transaction(fn)));
  }

  /** Nothing is acknowledged any more, unless that is under way; and nobody holds a connection any longer. */
  end(): void {
    this.#isOver = true;
    this.#over.resolve();
  }

  async #transaction<R>(fn: (tx: SqlExecutor) => Promise<R>): Promise<R> {
    const client = await translated(async () => this.#database.pool.connect());
    const tx = client as unknown as SqlExecutor;
    const unhear = ignoreLoss(client);
    let isAtWork = false;
    const work = async (): Promise<R> => {
      isAtWork = true;
      try {
        return await fn(tx);
      } finally {
        isAtWork = false;
      }
    };
    let broken = false;
    try {
      this.#requireTime(); // it has waited for a connection
      await translated(async () => client.query({ text: 'begin' }));
      const result = await this.#inTime(work());
      await this.#acknowledge(tx);
      await this.#commit(async () => client.query({ text: 'commit' }));
      return result;
    } catch (error) {
      this.isInDoubt = this.#mayHaveCommitted;
      // Who runs on unheard would keep the connection from everybody, for as long as it likes.
      broken = isAtWork || (await fails(client.query({ text: 'rollback' })));
      throw error;
    } finally {
      if (!broken) unhear();
      client.release(broken);
    }
  }

  /** Unless nobody waits for the handler any more. */
  async #inTime<R>(work: Promise<R>): Promise<R> {
    const late = this.#over.promise.then((): never => {
      throw tooLate();
    });
    return Promise.race([work, late]);
  }

  async #acknowledge(tx: SqlExecutor): Promise<void> {
    // Of what is over nothing is acknowledged, which is refused, so that the transaction cannot commit.
    const offsets = this.#isOver ? [] : this.#wanted();
    if (offsets.length === 0 && !this.#isOver)
      throw new RangeError(
        'all that was handed out was said to have failed; there is nothing to acknowledge',
      );
    this.offsets = offsets;
    this.isInDoubt = true; // whoever is told from now on that it failed waits for the transaction
    try {
      await ackEvents(this.#database, this.#lease.token, offsets, tx);
    } catch (error) {
      this.offsets = undefined;
      throw error;
    }
  }

  async #commit(commit: () => Promise<unknown>): Promise<void> {
    this.#mayHaveCommitted = true; // until the answer is there
    try {
      await translated(commit);
    } catch (error) {
      this.#mayHaveCommitted = !isAnswer(error);
      this.offsets = undefined;
      throw error;
    }
    this.isGiven = true;
    this.isCommitted = true;
  }

  async #once<R>(work: () => Promise<R>): Promise<R> {
    if (this.isGiven || this.#isUnderWay)
      throw new SluiceError('lease_lost', 'this was acknowledged already; acknowledge once');
    if (this.#mayHaveCommitted)
      throw new SluiceError(
        'lease_lost',
        'this may have been acknowledged: the answer to the commit was lost; let the handler fail, and it comes again if it was not',
      );
    this.#isUnderWay = true;
    try {
      return await work();
    } finally {
      this.#isUnderWay = false;
    }
  }

  #requireTime(): void {
    if (this.#isOver) throw tooLate();
  }
}

const tooLate = (): SluiceError =>
  new SluiceError(
    'lease_lost',
    'the handler took too long, had ended, or consuming has: roll back; what it was given comes again if it is not done',
  );

const fails = async (work: Promise<unknown>): Promise<boolean> =>
  work.then(
    () => false,
    () => true,
  );

/** The server has said that it did not commit. */
const isAnswer = (error: unknown): boolean =>
  driverErrorOf(error).code !== undefined &&
  !(error instanceof SluiceError && error.code === 'connection_lost');

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
