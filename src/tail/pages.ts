// Catch-up reads: a bounded number at a time for the whole process, shared by those who ask for the same page or stand
// near each other, so that many clients coming back at once cost few queries and never crowd out the rest. A read that
// fails because the database is away is tried again until it is back or nobody waits any more.
import type { Database } from '../db/database.ts';
import type { StreamIdentity } from '../log/event.ts';
import { readPage, type Page } from '../log/read.ts';
import type { CursorPosition } from '../protocol/cursor.ts';
import { nap, throwIfAborted } from '../util/abort.ts';
import { backoffMs } from '../util/backoff.ts';
import { Nearby } from './nearby.ts';
import type { Replica } from './replica.ts';
import { STEP_BYTES } from './window.ts';
import { report } from '../util/diagnostics.ts';
import { SluiceError } from '../util/errors.ts';
import { random } from '../util/random.ts';
import { Slots } from '../util/slots.ts';

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
  readonly #signal: AbortSignal;
  readonly #replica: Replica | undefined;
  readonly #shared = new Map<string, Promise<Page | undefined>>();
  readonly #nearby = new Nearby();
  readonly #slots: Slots;

  constructor(database: Database, options: PagesOptions) {
    this.#database = database;
    this.#slots = new Slots(options.maxReads);
    this.#signal = options.signal;
    this.#replica = options.replica;
  }

  /** The page from `offset` on (the event at it included). Undefined: the stream is gone. */
  read(stream: StreamIdentity, offset: bigint): Promise<Page | undefined> {
    return this.#share(`${offset}:${keyOf(stream)}`, () => this.#insist(stream, offset, false));
  }

  /**
   * The same for a tail, which everybody who is live waits for: before those who catch up. It shares a page with a
   * subscriber that asks for it: one that is shown another history must not be shown it before the tail.
   */
  readLive(stream: StreamIdentity, offset: bigint): Promise<Page | undefined> {
    return this.#share(`${offset}:${keyOf(stream)}`, () => this.#insist(stream, offset, true));
  }

  /** Finds where a reader starts, in its turn, unless it has left by then: so many come back at once after a restart. */
  start<T>(find: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    return this.#slots.run(async () => {
      throwIfAborted(signal);
      return find();
    });
  }

  /**
   * The same for a reader that stands behind `upTo`, which the primary has shown: from a replica, where there is one. The
   * page may begin before the place.
   */
  catchUp(stream: StreamIdentity, standing: CursorPosition, upTo: bigint): Promise<Page | undefined> {
    const { offset, tag } = standing;
    const replica = this.#replica;
    const read = (): Promise<Page | undefined> => this.read(stream, offset);
    if (!replica) return this.#nearby.read(stream, { standing, upTo }, read);
    return this.#share(`${offset}-${tag}:${keyOf(stream)}`, async () => {
      const page = await this.#slots.run(() => replica.read(stream, standing, upTo));
      return page ?? read();
    });
  }

  #share(key: string, read: () => Promise<Page | undefined>): Promise<Page | undefined> {
    const shared = this.#shared.get(key);
    if (shared) return shared;
    const page = read().finally(() => this.#shared.delete(key));
    this.#shared.set(key, page);
    return page;
  }

  async #insist(stream: StreamIdentity, offset: bigint, urgent: boolean): Promise<Page | undefined> {
    for (let attempt = 0; ; attempt += 1) {
      try {
        const request = { stream, offset, maxBytes: STEP_BYTES };
        return await this.#slots.run(() => readPage(this.#database, request), { urgent });
      } catch (error) {
        if (!(error instanceof SluiceError && error.retryable) || this.#signal.aborted) throw error;
        report('sluice:background.failed', () => ({ where: 'catch-up read', error }));
      }
      await nap(backoffMs(attempt, RETRY, random()), this.#signal).done;
    }
  }
}

const keyOf = ({ incarnation, name }: StreamIdentity): string => `${incarnation}:${name}`;
