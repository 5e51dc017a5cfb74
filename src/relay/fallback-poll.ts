// What every process does, role or not: once per fallbackPollMs it looks whether published events lie unmoved for
// longer than that and moves them itself, and tells its readers which of their streams have gone on without a
// notification. This bounds the delay when every notification is lost or the relay's holder is frozen.
import type { Database } from '../db/database.ts';
import { nap } from '../util/abort.ts';
import { jittered } from '../util/backoff.ts';
import { report } from '../util/diagnostics.ts';
import type { LoggerLike } from '../util/logger.ts';
import type { Housekeeping } from './housekeeping.ts';
import type { Passes } from './pass.ts';
import { random } from '../util/random.ts';

/** Passes in one round at most; what is left then is for the next round, or the relay. */
const MAX_PASSES = 1000;
/** Outbox rows looked at for their age. */
const MAX_ROWS = 1000;

export interface FallbackPollOptions {
  readonly database: Database;
  readonly passes: Passes;
  readonly housekeeping: Housekeeping;
  readonly fallbackPollMs: number;
  readonly logger: LoggerLike;
  /** Looks whether the process's own readers are behind; returns how many streams were. */
  checkReaders(): Promise<number>;
}

export class FallbackPoll {
  readonly #options: FallbackPollOptions;
  readonly #closing = new AbortController();
  #running: Promise<void> | undefined;

  constructor(options: FallbackPollOptions) {
    this.#options = options;
  }

  /** `moves`: whether this process may move events and tidy up; else it looks after its readers alone. */
  start(moves: boolean): void {
    this.#running ??= this.#run(moves);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#running;
  }

  async #run(moves: boolean): Promise<void> {
    const { fallbackPollMs, logger } = this.#options;
    const { signal } = this.#closing;
    for (;;) {
      await nap(jittered(fallbackPollMs, random()), signal).done;
      if (signal.aborted) return;
      try {
        // Readers first: what keeps events from being moved must not keep readers from those that are there.
        const behind = await this.#options.checkReaders();
        const stale = moves ? await this.#moveStale() : 0;
        report('sluice:poll.finished', () => ({ behind, stale }));
        if (moves) await this.#tidy();
      } catch (error) {
        logger.warn({ error }, 'the fallback poll failed; it is tried again');
        report('sluice:background.failed', () => ({ where: 'fallback poll', error }));
      }
    }
  }

  async #tidy(): Promise<void> {
    const { housekeeping } = this.#options;
    await housekeeping.rotate(); // the relay has nothing to do where appends move what was published
    await housekeeping.sweepEphemerals();
    while (!this.#closing.signal.aborted && (await housekeeping.expireKeys()));
    while (!this.#closing.signal.aborted && (await housekeeping.purgeGroups()));
  }

  async #moveStale(): Promise<number> {
    const { database, passes, fallbackPollMs } = this.#options;
    const [row] = await database.query<{ stale: boolean }>(
      `select exists (
         select from (select published_at from ${database.names.quoted}.outbox limit ${MAX_ROWS}) o
         where o.published_at < clock_timestamp() - make_interval(secs => $1)
       ) or exists (
         select from ${database.names.quoted}.delayed where due_at < clock_timestamp() - make_interval(secs => $1)
       ) as stale`,
      [fallbackPollMs / 1000],
      'sluice_stale',
    );
    if (row?.stale !== true) return 0;
    let total = 0;
    for (let pass = 0; pass < MAX_PASSES && !this.#closing.signal.aborted; pass += 1) {
      const { moved, more } = await passes.run('poll');
      total += moved;
      if (moved === 0 || !more) break;
    }
    return total;
  }
}
