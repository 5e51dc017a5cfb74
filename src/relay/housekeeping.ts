// What is done beside moving events, in small steps: takes back the space of the outbox and of ephemerals, forgets
// idempotency keys, and removes what is left of deleted groups. A step that fails is reported and tried again later. What
// streams let go of is the work of retention.ts.
import type { Database } from '../db/database.ts';
import { report } from '../util/diagnostics.ts';
import type { LoggerLike } from '../util/logger.ts';

/** The current slot of the outbox is left when it has grown to this: bounds what a pass wades through. */
const ROTATE_AT_BYTES = 2 ** 20;
/** Between two looks at its size, in milliseconds. */
const ROTATE_PAUSE_MS = 500;
/** How long a rotation may make others wait, once one has failed for want of a free moment. */
const ROTATE_WAIT_MS = 5;
/** Idempotency keys forgotten in one statement. */
const EXPIRY_BATCH = 5000;

export class Housekeeping {
  readonly #database: Database;
  readonly #logger: LoggerLike;
  #lookedAt = 0;
  #waitMs = 0;

  constructor(database: Database, logger: LoggerLike) {
    this.#database = database;
    this.#logger = logger;
  }

  /** Takes back the outbox's space when there is enough of it. Cheap to call often. */
  async rotate(): Promise<void> {
    const now = performance.now();
    if (now - this.#lookedAt < ROTATE_PAUSE_MS) return;
    this.#lookedAt = now;
    await this.#attempt('outbox rotation', async () => {
      const [row] = await this.#database.query<{ slot: string | null }>(
        `select ${this.#database.names.quoted}.rotate_outbox($1, $2)::text as slot`,
        [ROTATE_AT_BYTES, this.#waitMs],
        'sluice_rotate',
      );
      const slot = row?.slot ?? null;
      this.#waitMs = slot === null ? ROTATE_WAIT_MS : 0;
      if (slot !== null && slot !== '-1') report('sluice:relay.rotated', () => ({ slot: Number(slot) }));
    });
  }

  /** Takes back the space of ephemerals that everybody has had the time to read. */
  async sweepEphemerals(): Promise<void> {
    await this.#attempt('the sweep of ephemerals', async () => {
      await this.#database.query(
        `select ${this.#database.names.quoted}.sweep_ephemerals()`,
        [],
        'sluice_sweep_ephemerals',
      );
    });
  }

  /** Forgets one batch of idempotency keys whose time is over; true if there may be more. */
  async expireKeys(): Promise<boolean> {
    let more = false;
    await this.#attempt('expiry of idempotency keys', async () => {
      const [row] = await this.#database.query<{ removed: string }>(
        `select ${this.#database.names.quoted}.expire_keys($1)::text as removed`,
        [EXPIRY_BATCH],
      );
      more = Number(row?.removed ?? 0) >= EXPIRY_BATCH;
    });
    return more;
  }

  /** Removes a batch of what is left of groups that were deleted; true if there may be more. */
  async purgeGroups(): Promise<boolean> {
    let more = false;
    await this.#attempt('the purge of groups', async () => {
      const [row] = await this.#database.query<{ more: boolean }>(
        `select ${this.#database.names.quoted}.purge_groups() as more`,
        [],
        'sluice_purge_groups',
      );
      more = row?.more === true;
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
