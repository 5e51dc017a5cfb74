// Owns the writers of the chaos tests: a seeded mix of everything that puts events into streams, recorded as the
// transactions a checker can judge. A fixed number of transactions per run; how they meet is left to the machine.
// It records what it was told and nothing it believes: a connection that dies around a commit leaves an unknown.
import { type Pool, type PoolClient } from 'pg';
import { SluiceError, type Sluice } from 'sluice';
import type { Outcome, Transaction, Written } from './history.ts';
import { randomFrom, type Random } from './seed.ts';

/** A way to put events into streams: Sluice's, or one to compare it with. */
export interface Design {
  /** Writes in a transaction of its own; the first offset, if the design tells. */
  append(stream: string, values: readonly string[]): Promise<bigint | undefined>;
  /** Writes in the client's open transaction, or without a client in one of its own. */
  publish(stream: string, values: readonly string[], client?: PoolClient): Promise<void>;
}

export interface WritersOptions {
  readonly seed: number;
  /** What the writers write through, in turn: one per process. */
  readonly designs: readonly Design[];
  /** Where writers' own transactions run. */
  readonly pool: Pool;
  readonly streams: readonly string[];
  readonly writers?: number | undefined;
  /** False: only publish, so that nothing but passes moves events. Default true. */
  readonly appends?: boolean | undefined;
  /** Whether connections may be lost, and streams be held for longer. What else fails is a fault of ours. Default false. */
  readonly lossy?: boolean | undefined;
}

/** What a connection's end looks like to a user of pg and of Sluice. */
export function isConnectionLoss(error: unknown): boolean {
  if (error instanceof SluiceError) return error.code === 'connection_lost';
  if (!(error instanceof Error)) return false;
  const code = 'code' in error ? String(error.code) : '';
  return /^(?:57P0|08|ECONN|EPIPE)/.test(code) || /onnection|not queryable/.test(error.message);
}

class Writer {
  readonly name: string;
  readonly #options: WritersOptions;
  readonly #random: Random;
  readonly #design: Design;
  readonly #record: (transaction: Transaction) => void;
  #count = 0;

  constructor(index: number, options: WritersOptions, record: (transaction: Transaction) => void) {
    this.name = `w${index}`;
    this.#options = options;
    this.#random = randomFrom(options.seed * 31 + index);
    this.#design = options.designs[index % options.designs.length]!;
    this.#record = record;
  }

  async write(transactions: number): Promise<void> {
    const { appends = true } = this.#options;
    for (let count = 0; count < transactions; count += 1) {
      const choice = this.#random.next();
      if (appends && choice < 0.4) await this.#append();
      else if (choice < 0.5) await this.#publishAlone();
      else await this.#transaction();
    }
  }

  #write(stream: string): Written {
    this.#count += 1;
    return { stream, value: `${this.name}:${this.#count}` };
  }

  #some(stream: string, most: number): Written[] {
    return Array.from({ length: 1 + this.#random.below(most) }, () => this.#write(stream));
  }

  async #append(): Promise<void> {
    const stream = this.#random.pick(this.#options.streams);
    const events = this.#random.chance(0.6) ? [this.#write(stream)] : this.#some(stream, 4);
    await this.#attempt(events, async () => {
      const first = await this.#design.append(stream, valuesOf(events));
      if (first === undefined) return events;
      return events.map((event, index) => ({ ...event, offset: first + BigInt(index) }));
    });
  }

  async #publishAlone(): Promise<void> {
    const stream = this.#random.pick(this.#options.streams);
    const events = this.#some(stream, 3);
    await this.#attempt(events, async () => {
      await this.#design.publish(stream, valuesOf(events));
      return events;
    });
  }

  /** What is one transaction by itself. */
  async #attempt(events: readonly Written[], work: () => Promise<readonly Written[]>): Promise<void> {
    const begunAt = performance.now();
    try {
      const written = await work();
      this.#add('ok', begunAt, written);
    } catch (error) {
      // Refused for want of time, nothing was written: the checker holds it to that.
      const refused = error instanceof SluiceError && error.code === 'overloaded';
      if (!refused || this.#options.lossy !== true) this.#forgive(error);
      this.#add(refused ? 'rolled-back' : 'unknown', begunAt, events);
    }
  }

  async #transaction(): Promise<void> {
    const client = await this.#connect();
    const begunAt = performance.now();
    const events: Written[] = [];
    let outcome: Outcome = 'rolled-back';
    let committing = false;
    let broken = true;
    try {
      const level = this.#random.pick([
        'read committed',
        'read committed',
        'repeatable read',
        'serializable',
      ]);
      await client.query(`begin isolation level ${level}`);
      for (let steps = 1 + this.#random.below(5); steps > 0; steps -= 1) await this.#step(client, events);
      if (this.#random.chance(0.12)) {
        await client.query('rollback');
      } else {
        committing = true;
        const { command } = await client.query('commit');
        outcome = command === 'COMMIT' ? 'ok' : 'rolled-back';
      }
      broken = false;
    } catch (error) {
      this.#forgive(error);
      if (committing) outcome = 'unknown';
    } finally {
      client.release(broken);
    }
    this.#add(outcome, begunAt, events);
  }

  async #connect(): Promise<PoolClient> {
    for (;;) {
      try {
        return await this.#options.pool.connect();
      } catch (error) {
        this.#forgive(error);
      }
    }
  }

  async #step(client: PoolClient, events: Written[]): Promise<void> {
    const choice = this.#random.next();
    if (choice < 0.15) await client.query('select pg_sleep($1)', [this.#random.next() * 0.008]);
    else if (choice < 0.25) await turns(this.#random.below(40));
    else if (choice < 0.4) await this.#savepoint(client, events);
    else events.push(...(await this.#publish(client)));
  }

  async #savepoint(client: PoolClient, events: Written[]): Promise<void> {
    const begunAt = performance.now();
    await client.query('savepoint here');
    const inside = await this.#publish(client);
    if (this.#random.chance(0.5)) {
      await client.query('release savepoint here');
      events.push(...inside);
      return;
    }
    this.#add('rolled-back', begunAt, inside); // whatever becomes of the rest
    await client.query('rollback to savepoint here');
  }

  async #publish(client: PoolClient): Promise<Written[]> {
    const stream = this.#random.pick(this.#options.streams);
    const events = this.#random.chance(0.7) ? [this.#write(stream)] : this.#some(stream, 4);
    await this.#design.publish(stream, valuesOf(events), client);
    return events;
  }

  #add(outcome: Outcome, begunAt: number, events: readonly Written[]): void {
    const acknowledged = outcome === 'ok' ? { acknowledgedAt: performance.now() } : {};
    this.#record({ writer: this.name, outcome, begunAt, events, ...acknowledged });
  }

  #forgive(error: unknown): void {
    if (this.#options.lossy !== true || !isConnectionLoss(error)) throw error;
  }
}

/** The writers of one history; `run` may be called again and goes on where it stopped. */
export class Writers {
  readonly transactions: Transaction[] = [];
  readonly streams: readonly string[];
  readonly #writers: readonly Writer[];

  constructor(options: WritersOptions) {
    this.streams = options.streams;
    const record = (transaction: Transaction): void => void this.transactions.push(transaction);
    this.#writers = Array.from(
      { length: options.writers ?? 16 },
      (_, index) => new Writer(index, options, record),
    );
  }

  /** Each writer attempts this many transactions, all at once. */
  async run(transactionsEach: number): Promise<void> {
    await Promise.all(this.#writers.map((writer) => writer.write(transactionsEach)));
  }
}

const valuesOf = (events: readonly Written[]): string[] => events.map(({ value }) => value);

const turns = async (count: number): Promise<void> => {
  for (let turn = 0; turn < count; turn += 1) await new Promise((done) => setImmediate(done));
};

/** What the events of a history carry. */
export interface Payload {
  readonly value: string;
}

/** Sluice itself: through the library, and now and then through SQL alone. */
export const sluiceDesign = (sluice: Sluice): Design => ({
  append: async (name, values) => {
    const stream = sluice.stream<Payload>(name);
    if (values.length > 1)
      return (await stream.appendMany(values.map((value) => ({ data: { value } })))).first;
    return (await stream.append({ value: values[0]! })).offset;
  },
  publish: async (name, values, tx) => {
    const stream = sluice.stream<Payload>(name);
    const [first = ''] = values;
    if (values.length > 1)
      await stream.publishMany(
        values.map((value) => ({ data: { value } })),
        { tx },
      );
    else if (tx && first.endsWith('3')) {
      await tx.query('select sluice.publish($1, $2)', [name, JSON.stringify({ value: first })]);
    } else await stream.publish({ value: first }, { tx });
  },
});
