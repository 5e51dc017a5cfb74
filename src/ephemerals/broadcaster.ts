// The sending side of ephemerals: what is broadcast in this process, in order, one statement at a time, with whatever
// has come meanwhile in the next one. Bounded; what does not fit is refused. Stores nothing itself and retries nothing.
import { textArrayLiteral } from '../db/array-literal.ts';
import type { Database } from '../db/database.ts';
import { deferred, type Deferred } from '../util/deferred.ts';
import { SluiceError } from '../util/errors.ts';
import type { Ephemeral } from './unseen.ts';

/** JSON of one message, at most; the same in sql/functions/broadcast.sql. */
export const MAX_EPHEMERAL_BYTES = 65_536;
/** Messages in one statement. */
const MAX_BATCH = 100;
/** Messages that wait in this process, at most, and their length. */
const MAX_QUEUED = 10_000;
const MAX_QUEUED_LENGTH = 8 * 2 ** 20;

type Waiting = Ephemeral & { readonly sent: Deferred<void> };

export class Broadcaster {
  readonly #database: Database;
  readonly #onSent: () => void;
  #queue: Waiting[] = [];
  #length = 0;
  #sending: Promise<void> | undefined;
  #closed = false;

  /** @param onSent called after each commit, so that this process need not wait for its own notification */
  constructor(database: Database, onSent: () => void) {
    this.#database = database;
    this.#onSent = onSent;
  }

  /**
   * Resolves when the message is on its way to every process.
   *
   * @throws SluiceError overloaded, payload_invalid, connection_lost, permission_denied, closed
   */
  send(message: Ephemeral): Promise<void> {
    if (this.#closed) return Promise.reject(new SluiceError('closed', 'this Sluice is closed'));
    const length = this.#length + message.data.length;
    if (this.#queue.length >= MAX_QUEUED || length > MAX_QUEUED_LENGTH) {
      const waiting = `${this.#queue.length} messages wait to be broadcast`;
      return Promise.reject(new SluiceError('overloaded', `${waiting}; broadcast less, or try again later`));
    }
    const sent = deferred();
    this.#queue.push({ ...message, sent });
    this.#length = length;
    this.#sending ??= this.#sendAll();
    return sent.promise;
  }

  /** Resolves when what was accepted is sent. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#sending;
  }

  async #sendAll(): Promise<void> {
    await Promise.resolve(); // what is broadcast in one go leaves in one statement
    while (this.#queue.length > 0) {
      const batch = this.#queue.splice(0, MAX_BATCH);
      for (const { data } of batch) this.#length -= data.length;
      await this.#send(batch);
    }
    this.#sending = undefined;
  }

  async #send(batch: readonly Waiting[]): Promise<void> {
    try {
      await this.#insert(batch);
    } catch (error) {
      // One that the server refuses (nested too deeply, say) must not take the others with it.
      if (batch.length > 1 && error instanceof SluiceError && !error.retryable) {
        for (const each of batch) await this.#send([each]);
        return;
      }
      for (const { sent } of batch) sent.reject(error);
      return;
    }
    for (const { sent } of batch) sent.resolve();
    this.#onSent();
  }

  async #insert(batch: readonly Ephemeral[]): Promise<void> {
    const { quoted } = this.#database.names;
    await this.#database.query(
      `select ${quoted}.broadcast(m.stream, m.data::json, m.type, m.visible_to, m.exclude)
       from unnest($1::text::text[], $2::text::text[], $3::text::text[], $4::text::text[], $5::text::uuid[])
         m (stream, data, type, visible_to, exclude)`,
      [
        textArrayLiteral(batch.map(({ stream }) => stream)),
        textArrayLiteral(batch.map(({ data }) => data)),
        textArrayLiteral(batch.map(({ type }) => type)),
        textArrayLiteral(batch.map(({ visibleTo }) => visibleTo)),
        textArrayLiteral(batch.map(({ exclude }) => exclude)),
      ],
      'sluice_broadcast',
    );
  }
}
