// Catch-up reads: a bounded number at a time for the whole process, shared when two ask for the same page, so that
// many clients coming back at once cost few queries and never crowd out the rest. A read that fails because the
// database is away is tried again until it is back or nobody waits any more.
import type { Database } from '../db/database.ts';
import type { StreamIdentity } from '../log/event.ts';
import { readPage, type Page } from '../log/read.ts';
import type { CursorPosition } from '../protocol/cursor.ts';
import { nap } from '../util/abort.ts';
import { backoffMs } from '../util/backoff.ts';
import { deferred, type Deferred } from '../util/deferred.ts';
import type { Replica } from './replica.ts';
import { STEP_BYTES } from './window.ts';
import { report } from '../util/diagnostics.ts';
import { SluiceError } from '../util/errors.ts';
import { random } from '../util/random.ts';

const RETRY = { initialMs: 50, maxMs: 2000 };

export interface PagesOptions {
  /** Reads at a time. */
  readonly maxReads: number;
  readonly signal: AbortSignal;
  /** Where to look first for what a reader far behind lacks. */
  readonly replica?: Replica | undefined;
}

export class Pages {
  readonly #database: Database;
  readonly #maxReads: number;
  readonly #signal: AbortSignal;
  readonly #replica: Replica | undefined;
  readonly #shared = new Map<string, Promise<Page | undefined>>();
  readonly #waiting: Deferred<void>[] = [];
  #reads = 0;

  constructor(database: Database, options: PagesOptions) {
    this.#database = database;
    this.#maxReads = options.maxReads;
    this.#signal = options.signal;
    this.#replica = options.replica;
  }

  /** The page from `offset` on (the event at it included). Undefined: the stream is gone. */
  read(stream: StreamIdentity, offset: bigint): Promise<Page | undefined> {
    return this.#share(`${offset}:${keyOf(stream)}`, () => this.#insist(stream, offset));
  }

  /** The same for a reader that stands behind `upTo`, which the primary has shown: from a replica, where there is one. */
  catchUp(stream: StreamIdentity, standing: CursorPosition, upTo: bigint): Promise<Page | undefined> {
    const { offset, tag } = standing;
    const replica = this.#replica;
    if (!replica) return this.read(stream, offset);
    return this.#share(`${offset}-${tag}:${keyOf(stream)}`, async () => {
      const page = await this.#taking(() => replica.read(stream, standing, upTo));
      return page ?? this.read(stream, offset);
    });
  }

  #share(key: string, read: () => Promise<Page | undefined>): Promise<Page | undefined> {
    const shared = this.#shared.get(key);
    if (shared) return shared;
    const page = read().finally(() => this.#shared.delete(key));
    this.#shared.set(key, page);
    return page;
  }

  async #insist(stream: StreamIdentity, offset: bigint): Promise<Page | undefined> {
    for (let attempt = 0; ; attempt += 1) {
      try {
        const request = { stream, offset, maxBytes: STEP_BYTES };
        return await this.#taking(() => readPage(this.#database, request));
      } catch (error) {
        if (!(error instanceof SluiceError && error.retryable) || this.#signal.aborted) throw error;
        report('sluice:background.failed', () => ({ where: 'catch-up read', error }));
      }
      await nap(backoffMs(attempt, RETRY, random()), this.#signal).done;
    }
  }

  async #taking<T>(read: () => Promise<T>): Promise<T> {
    await this.#enter();
    try {
      return await read();
    } finally {
      this.#leave();
    }
  }

  async #enter(): Promise<void> {
    if (this.#reads >= this.#maxReads) {
      const turn = deferred();
      this.#waiting.push(turn);
      await turn.promise; // the one who leaves passes its place on
      return;
    }
    this.#reads += 1;
  }

  #leave(): void {
    const next = this.#waiting.shift();
    if (next) next.resolve();
    else this.#reads -= 1;
  }
}

const keyOf = ({ incarnation, name }: StreamIdentity): string => `${incarnation}:${name}`;
