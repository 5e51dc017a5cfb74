// Catch-up reads: a bounded number at a time for the whole process, shared by those who ask for the same page or stand
// near each other, so that many clients coming back at once cost few queries and never crowd out the rest. A read that
// fails because the database is away is tried again until it is back or nobody waits any more; not for a reader that
// has not begun yet, who is refused.
import type { Database } from '../db/database.ts';
import type { StreamIdentity } from '../log/event.ts';
import { readPage, type Page } from '../log/read.ts';
import { nap, throwIfAborted } from '../util/abort.ts';
import { backoffMs } from '../util/backoff.ts';
import { Nearby, type Behind } from './nearby.ts';
import type { Replica } from './replica.ts';
import type { ShelfOptions } from './shelf.ts';
import { STEP_BYTES } from './steps.ts';
import { report } from '../util/diagnostics.ts';
import { SluiceError } from '../util/errors.ts';
import { random } from '../util/random.ts';
import { Slots } from '../util/slots.ts';

const RETRY = { initialMs: 50, maxMs: 2000 };

export interface PagesOptions {
  /** Reads at a time. */
  readonly maxReads: number;
  readonly signal: AbortSignal;
  /** Pages kept for readers who come by the same place. */
  readonly shelf: ShelfOptions;
  /** Where to look first for what a reader far behind lacks. */
  readonly replica?: Replica | undefined;
}

/** A read that waits for its turn or is under way, and whether those who share it still want it. */
interface Shared {
  readonly page: Promise<Page | undefined>;
  readonly wishes: (() => boolean)[];
}

export class Pages {
  readonly #database: Database;
  readonly #signal: AbortSignal;
  readonly #replica: Replica | undefined;
  readonly #shared = new Map<string, Shared>();
  readonly #nearby: Nearby;
  readonly #slots: Slots;

  constructor(database: Database, options: PagesOptions) {
    this.#database = database;
    this.#slots = new Slots(options.maxReads);
    this.#signal = options.signal;
    this.#replica = options.replica;
    this.#nearby = new Nearby(options.shelf);
    options.signal.addEventListener('abort', () => this.#nearby.close(), { once: true });
  }

  /** The page from `offset` on (the event at it included). Undefined: the stream is gone. */
  read(stream: StreamIdentity, offset: bigint): Promise<Page | undefined> {
    return this.#insist(() => this.#once(stream, offset));
  }

  /**
   * The same for a tail, which everybody who is live waits for: before those who catch up. It shares a page with a
   * subscriber that asks for it: one that is shown another history must not be shown it before the tail.
   */
  readLive(stream: StreamIdentity, offset: bigint): Promise<Page | undefined> {
    return this.#insist(() => this.#once(stream, offset, { urgent: true }));
  }

  /** Finds where a reader starts, in its turn, unless it has left by then: so many come back at once after a restart. */
  start<T>(find: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    return this.#slots.run(async () => {
      throwIfAborted(signal);
      return find();
    });
  }

  /**
   * The same for a reader that is behind what the primary has shown: from a replica, where there is one. Not `alone`, others
   * may want it too: the page is shared with them, and may begin before the reader's place.
   */
  catchUp(
    stream: StreamIdentity,
    reader: Behind,
    { alone }: { readonly alone: boolean },
  ): Promise<Page | undefined> {
    return this.#insist(() =>
      alone ? this.#behind(stream, reader, { offset: reader.standing.offset }) : this.near(stream, reader),
    );
  }

  /**
   * The same for a reader that has not begun, among others: it fails at once when the database is away, and is not read for
   * once it has left.
   */
  near(stream: StreamIdentity, reader: Behind): Promise<Page | undefined> {
    return this.#nearby.read(stream, reader, (offset, isWanted) =>
      this.#behind(stream, reader, { offset, isWanted }),
    );
  }

  /** Whether what follows the reader's place is in memory. */
  holds(stream: StreamIdentity, reader: Behind): boolean {
    return this.#nearby.holds(stream, reader);
  }

  /** The stream has another history now: what was read of it is not shared any more. */
  forget(stream: StreamIdentity): void {
    this.#nearby.forget(stream);
  }

  /** A page from the offset on, which is the reader's place or somewhat before it. */
  async #behind(
    stream: StreamIdentity,
    { standing, upTo }: Behind,
    { offset, isWanted = always }: { readonly offset: bigint; readonly isWanted?: () => boolean },
  ): Promise<Page | undefined> {
    const replica = this.#replica;
    const fromReplica = async (): Promise<Page | undefined> =>
      isWanted() ? replica?.read(stream, offset, { standing, upTo: upTo() }) : undefined;
    const page = replica && (await this.#slots.run(fromReplica));
    return page ?? this.#once(stream, offset, { isWanted });
  }

  /** One attempt, for all who ask for the page while it is under way; none if they all have left before its turn. */
  #once(
    stream: StreamIdentity,
    offset: bigint,
    {
      urgent = false,
      isWanted = always,
    }: { readonly urgent?: boolean; readonly isWanted?: () => boolean } = {},
  ): Promise<Page | undefined> {
    const key = `${offset}:${keyOf(stream)}`;
    const known = this.#shared.get(key);
    known?.wishes.push(isWanted);
    if (known) return known.page;
    const wishes = [isWanted];
    const read = async (): Promise<Page | undefined> => {
      if (wishes.some((wish) => wish()))
        return readPage(this.#database, { stream, offset, maxBytes: STEP_BYTES });
      this.#shared.delete(key); // in this very step: who comes now has another one
      throw new DOMException('whoever asked for a page has left', 'AbortError');
    };
    const page = this.#slots.run(read, { urgent }).finally(() => {
      if (this.#shared.get(key) === shared) this.#shared.delete(key);
    });
    const shared = { page, wishes };
    this.#shared.set(key, shared);
    return page;
  }

  async #insist(read: () => Promise<Page | undefined>): Promise<Page | undefined> {
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await read();
      } catch (error) {
        if (!(error instanceof SluiceError && error.retryable) || this.#signal.aborted) throw error;
        report('sluice:background.failed', () => ({ where: 'catch-up read', error }));
      }
      await nap(backoffMs(attempt, RETRY, random()), this.#signal).done;
    }
  }
}

const keyOf = ({ incarnation, name }: StreamIdentity): string => `${incarnation}:${name}`;

const always = (): boolean => true;
