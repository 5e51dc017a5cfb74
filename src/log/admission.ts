// The schema at a stream handle's door: what does not fit is refused before anything is sent. With a schema that answers
// at once, what fits is sent in the same tick, before any statement that the caller sends next. What has to wait for an
// answer keeps its place: among the calls that share its transaction, else among the handle's. Not across transactions:
// one that waits for another's lock in its schema would hold up the very transaction that it waits for.
import type { SqlExecutor } from '../db/queryable.ts';
import type { Budget } from './budget.ts';
import { sizeOf } from './encode.ts';
import type { EncodedEvent } from './event.ts';
import { judge, type StandardSchemaV1, type Verdict } from '../util/standard-schema.ts';
import { refusal } from './payload-schema.ts';
import { Turns } from './turns.ts';

export interface AdmissionOptions {
  readonly stream: string;
  readonly schema: StandardSchemaV1;
  /** Bounds what waits for schemas, in the whole process. */
  readonly budget: Budget;
  /** How long a call that is ready waits for earlier ones, in milliseconds. */
  readonly waitMs: number;
}

/** One call: its payloads as given, and as they will be stored. */
export interface Arrival {
  readonly payloads: readonly unknown[];
  readonly encoded: readonly EncodedEvent[];
  /** Whether the caller gave a list, so that an index tells which. */
  readonly inBatch: boolean;
  readonly tx?: SqlExecutor | undefined;
  readonly signal: AbortSignal | undefined;
}

export class Admission {
  readonly #options: AdmissionOptions;
  readonly #turns = new Turns();
  readonly #inTransaction = new WeakMap<object, Turns>();

  constructor(options: AdmissionOptions) {
    this.#options = options;
  }

  /**
   * Calls `send` when the payloads fit and it is their turn; at once if nothing has to be waited for.
   *
   * @throws SluiceError payload_invalid, overloaded; TypeError for a schema that answers what it may not
   */
  admit<T>(arrival: Arrival, send: () => Promise<T>): Promise<T> {
    const ready = this.#check(arrival);
    const turns = this.#turnsOf(arrival.tx);
    if (!ready && (turns === undefined || turns.free)) return send();
    ready?.catch(() => {}); // nobody may be left to wait for it
    return this.#wait(ready, turns ?? this.#openTurns(arrival.tx), arrival, send);
  }

  async #wait<T>(
    ready: Promise<void> | undefined,
    turns: Turns,
    { encoded, signal }: Arrival,
    send: () => Promise<T>,
  ): Promise<T> {
    const giveBack = this.#options.budget.take(encoded.length, sizeOf(encoded));
    try {
      return await turns.take({ ready, waitMs: this.#options.waitMs, signal }, () => {
        giveBack();
        return send();
      });
    } finally {
      giveBack();
    }
  }

  #turnsOf(tx: SqlExecutor | undefined): Turns | undefined {
    return isKey(tx) ? this.#inTransaction.get(tx) : this.#turns;
  }

  #openTurns(tx: SqlExecutor | undefined): Turns {
    const turns = new Turns();
    if (isKey(tx)) this.#inTransaction.set(tx, turns);
    return turns;
  }

  /** Undefined when all answers came at once. */
  #check(arrival: Arrival): Promise<void> | undefined {
    for (const [index, payload] of arrival.payloads.entries()) {
      const verdict = judge(this.#options.schema, payload);
      if (verdict instanceof Promise) return this.#checkFrom(index, verdict, arrival);
      this.#require(verdict, index, arrival);
    }
    return undefined;
  }

  // One after the other: a schema may ask a database, and a batch of ten thousand must not ask it all at once.
  async #checkFrom(first: number, asked: Promise<Verdict>, arrival: Arrival): Promise<void> {
    this.#require(await asked, first, arrival);
    for (let index = first + 1; index < arrival.payloads.length; index += 1) {
      arrival.signal?.throwIfAborted();
      this.#require(await judge(this.#options.schema, arrival.payloads[index]), index, arrival);
    }
  }

  #require(verdict: Verdict, index: number, { inBatch }: Arrival): void {
    if (verdict.ok) return;
    const stream = JSON.stringify(this.#options.stream);
    throw refusal(verdict, {
      what: `${inBatch ? `events[${index}]` : 'the data'} does not fit the schema of stream ${stream}`,
      remedy: 'nothing was written',
      index: inBatch ? index : undefined,
    });
  }
}

// What is no object is refused as `tx` later, by whoever sends.
const isKey = (tx: SqlExecutor | undefined): tx is SqlExecutor => typeof tx === 'object' && tx !== null;
