// What the holder of the relay role does beside moving events, in small steps between passes: taking back the space of
// the outbox, and removing the events of deleted streams. A step that fails is reported and tried again later.
import type { Database } from '../db/database.ts';
import { report } from '../util/diagnostics.ts';
import type { LoggerLike } from '../util/logger.ts';

/** Events moved between two rotations of the outbox: bounds what a pass wades through behind an old snapshot. */
const ROTATE_EVERY = 16_384;
const PURGE_BATCH = 5000;

export class Housekeeping {
  readonly #database: Database;
  readonly #logger: LoggerLike;
  #sinceRotation = 0;

  constructor(database: Database, logger: LoggerLike) {
    this.#database = database;
    this.#logger = logger;
  }

  async afterPass(moved: number): Promise<void> {
    this.#sinceRotation += moved;
    if (this.#sinceRotation < ROTATE_EVERY) return;
    await this.#attempt('outbox rotation', async () => {
      const [row] = await this.#database.query<{ slot: string | null }>(
        `select ${this.#database.names.quoted}.rotate_outbox()::text as slot`,
      );
      // No slot was free: again after a fraction of the usual distance.
      const slot = row?.slot ?? null;
      this.#sinceRotation = slot === null ? ROTATE_EVERY * 0.75 : 0;
      if (slot !== null) report('sluice:relay.rotated', () => ({ slot: Number(slot) }));
    });
  }

  /** Removes one batch of events of deleted streams; true if there may be more. */
  async purge(): Promise<boolean> {
    let more = false;
    await this.#attempt('purge of deleted streams', async () => {
      const [row] = await this.#database.query<{ removed: string }>(
        `select ${this.#database.names.quoted}.purge_events($1)::text as removed`,
        [PURGE_BATCH],
      );
      more = Number(row?.removed ?? 0) >= PURGE_BATCH;
    });
    return more;
  }

  async #attempt(where: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#logger.warn({ error }, `${where} failed; it is tried again`);
      report('sluice:background.failed', () => ({ where, error }));
    }
  }
}
