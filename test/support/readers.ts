// Owns the readers of the chaos tests: each follows one stream, records what it gets in the order it gets it, and goes
// on from its last cursor whenever its subscription ends, by choice or by a fault. It forgives what a user is told to
// try again, and a stream that does not exist yet; anything else is a failure.
import { SluiceError, type Sluice } from 'sluice';
import type { Reading, Seen } from './history.ts';
import type { Random } from './seed.ts';
import type { Payload } from './writers.ts';

export interface ReaderOptions {
  readonly name: string;
  readonly stream: string;
  /** Default 0n, the start. */
  readonly after?: bigint | undefined;
  /** The process to read through, asked for each new subscription. */
  readonly sluice: () => Sluice;
  /** Given, the reader leaves its subscription now and then and comes back with its last cursor. */
  readonly restless?: Random | undefined;
}

export class Reader {
  readonly #options: ReaderOptions;
  readonly #events: Seen[] = [];
  readonly #stopping = new AbortController();
  readonly #running: Promise<void>;
  #subscriptions = 0;
  #failure: Error | undefined;

  constructor(options: ReaderOptions) {
    this.#options = options;
    this.#running = this.#run().catch((error: unknown) => {
      this.#failure = new Error(`reader ${options.name} of ${options.stream} failed`, { cause: error });
    });
  }

  get stream(): string {
    return this.#options.stream;
  }

  /** How often it has subscribed. */
  get subscriptions(): number {
    return this.#subscriptions;
  }

  /** The last offset it got, or where it started. @throws what ended it */
  get position(): bigint {
    if (this.#failure) throw this.#failure;
    return this.#events.at(-1)?.offset ?? this.#options.after ?? 0n;
  }

  /** What it has got so far. */
  get reading(): Reading {
    const { name, stream, after = 0n } = this.#options;
    return { reader: name, stream, after, events: this.#events };
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    if (this.#failure) throw this.#failure;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      try {
        await this.#follow(signal);
      } catch (error) {
        const again = error instanceof SluiceError && (error.retryable || error.code === 'stream_not_found');
        if (!again) throw error;
        await new Promise((done) => setImmediate(done));
      }
    }
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const { sluice, stream, after = 0n, restless } = this.#options;
    this.#subscriptions += 1;
    let left = restless ? 1 + restless.below(30) : Infinity;
    const position = this.#events.at(-1)?.cursor ?? after;
    for await (const { offset, data, cursor } of sluice()
      .stream<Payload>(stream)
      .subscribe({ after: position, signal })) {
      this.#events.push({ offset, value: data.value, cursor });
      left -= 1;
      if (left <= 0) return;
    }
  }
}
