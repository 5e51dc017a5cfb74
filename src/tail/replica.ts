// Catch-up pages from a hot standby, which may be behind, cancel what is in the way of its replay, be promoted away or
// be gone. It is believed in one thing only: a page that goes on from the very event the reader stands on, in the part of
// the stream that the primary is known to have. Everything else is for the primary to say: where the head is, that
// history is gone or another one, that a stream was deleted. So a reader can get events from here, and no conclusion.
import type { Database } from '../db/database.ts';
import type { StreamIdentity } from '../log/event.ts';
import { locate } from '../log/locate.ts';
import { readPage, type Page } from '../log/read.ts';
import { databaseIdentity } from '../log/standby.ts';
import type { CursorPosition } from '../protocol/cursor.ts';
import { backoffMs } from '../util/backoff.ts';
import { report } from '../util/diagnostics.ts';
import { SluiceError } from '../util/errors.ts';
import type { LoggerLike } from '../util/logger.ts';
import { random } from '../util/random.ts';
import { STEP_BYTES } from './steps.ts';

/** How long a standby that failed is left alone: half a second, and up to 15 s more the longer it fails. */
const REST = { initialMs: 1000, maxMs: 30_000 };

/**
 * The part of a standby's page that may be delivered to a reader: what follows it, up to an offset that the primary has
 * shown. A standby can show a commit before the primary does, so what lies beyond would look like another history there.
 * Undefined: nothing of it, ask the primary.
 */
export function usable(page: Page, standing: CursorPosition, upTo: bigint): Page | undefined {
  const here = page.rows.findIndex(({ offset }) => offset >= standing.offset);
  const located = locate(page.state, standing, here > 0 ? page.rows.slice(here) : page.rows);
  if (located.kind !== 'ok') return undefined;
  const known = page.rows.filter(({ offset }) => offset <= upTo);
  return known.some(({ offset }) => offset > standing.offset)
    ? { state: page.state, rows: known }
    : undefined;
}

export interface ReplicaOptions {
  readonly primary: Database;
  readonly standby: Database;
  readonly logger: LoggerLike;
}

export class Replica {
  readonly #options: ReplicaOptions;
  #identity: string | undefined;
  #failures = 0;
  #restUntil = 0;

  constructor(options: ReplicaOptions) {
    this.#options = options;
  }

  /**
   * A page from an offset on, which is the place of a reader or before it, if what follows the place is in it and may be
   * delivered; undefined when the primary has to be asked. Never rejects.
   */
  async read(
    stream: StreamIdentity,
    offset: bigint,
    { standing, upTo }: { readonly standing: CursorPosition; readonly upTo: bigint },
  ): Promise<Page | undefined> {
    if (performance.now() < this.#restUntil) return undefined;
    try {
      const page = await this.#page(stream, offset);
      this.#failures = 0;
      const found = page && usable(page, standing, upTo);
      report('sluice:replica.read', () => ({ offset: standing.offset, used: found !== undefined }));
      return found;
    } catch (error) {
      this.#rest(error);
      return undefined;
    }
  }

  async #page(stream: StreamIdentity, offset: bigint): Promise<Page | undefined> {
    const { primary, standby } = this.#options;
    const standbyOf = (this.#identity ??= (await databaseIdentity(primary)).identity);
    const page = await readPage(standby, { stream, offset, maxBytes: STEP_BYTES, standbyOf });
    if (page) return page;
    // Not there yet, or not one of ours.
    const { identity, inRecovery } = await databaseIdentity(standby);
    if (inRecovery && identity === standbyOf) return undefined;
    this.#identity = undefined; // the primary may be another one by now
    throw new SluiceError(
      'unsupported_server',
      `the server of readConnectionString is ${inRecovery ? 'a standby of another database' : 'no standby (any more)'}; give one of this primary's, or none`,
    );
  }

  #rest(error: unknown): void {
    const ms = backoffMs(this.#failures, REST, random()) / 2 + REST.initialMs / 2;
    this.#failures += 1;
    this.#restUntil = performance.now() + ms;
    this.#options.logger.warn(
      { error, restMs: ms },
      'the standby could not be read; the primary is, meanwhile',
    );
    report('sluice:background.failed', () => ({ where: 'replica read', error }));
  }
}
