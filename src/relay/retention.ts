// Keeps streams within their bounds and takes back the space of what is gone, for as long as the relay role is held.
// Every step is one short call: a start is moved under its stream's lock alone, and rows that nobody can see any more
// are removed in batches that lock no stream. A step that fails is reported and tried again; nothing is remembered
// between steps but in the database, so whoever has the role next goes on where this one was.
import type { Database } from '../db/database.ts';
import { nap } from '../util/abort.ts';
import { jittered } from '../util/backoff.ts';
import { report } from '../util/diagnostics.ts';
import { SluiceError } from '../util/errors.ts';
import type { LoggerLike } from '../util/logger.ts';
import { random } from '../util/random.ts';
import { restForDuty } from './pace.ts';

/** Streams with a bound that are looked at in one statement. */
const PAGE = 500;
/** Events weighed in one step, each way. */
const WEIGH_EVENTS = 20_000;
/** Steps for one stream in a round, at most: only a stream weighed for the first time needs many. */
const MAX_STEPS = 100;
/** How long a stream's lock is waited for. Others who want it wait for the same holder, not for us. */
const LOCK_WAIT_MS = 100;
/** Rows removed in one batch. */
const PURGE_BATCH = 5000;
/** Part of the time that may be spent: many streams with bounds make rounds rarer, and removing leaves room for others. */
const ENFORCE_DUTY = 0.1;
const PURGE_DUTY = 0.5;

export interface RetentionOptions {
  readonly database: Database;
  /** Between two rounds, in milliseconds. */
  readonly intervalMs: number;
  readonly logger: LoggerLike;
}

interface Round {
  /** Streams whose start has moved. */
  trimmed: number;
  /** Events before it that were there before. */
  removed: number;
  /** Streams that somebody held, left for the next round. */
  held: number;
}

export class Retention {
  readonly #options: RetentionOptions;

  constructor(options: RetentionOptions) {
    this.#options = options;
  }

  /** Works until the signal aborts; resolves when the last step has ended. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const { intervalMs } = this.#options;
    let restMs = 0;
    while (!signal.aborted) {
      await nap(jittered(Math.max(intervalMs, restMs), random()), signal).done;
      const started = performance.now();
      await this.#attempt('retention', () => this.#enforce(signal));
      restMs = restForDuty(performance.now() - started, ENFORCE_DUTY);
      await this.#attempt('removal of trimmed and deleted events', () => this.#purge(signal));
    }
  }

  async #enforce(signal: AbortSignal): Promise<void> {
    const started = performance.now();
    const round: Round = { trimmed: 0, removed: 0, held: 0 };
    for (let after: string | undefined = '0'; after !== undefined && !signal.aborted;) {
      const page: Candidate[] = await this.#page(after);
      for (const { id, due } of page) {
        if (signal.aborted) break;
        if (due) await this.#attempt('retention of a stream', () => this.#retain(id, round, signal));
      }
      after = page.length < PAGE ? undefined : page.at(-1)?.id;
    }
    report('sluice:retention.enforced', () => ({ ...round, ms: performance.now() - started }));
  }

  async #retain(id: string, round: Round, signal: AbortSignal): Promise<void> {
    const { database } = this.#options;
    let removed = 0;
    try {
      for (let step = 0, more = true; more && step < MAX_STEPS && !signal.aborted; step += 1) {
        const [row] = await database.query<{ removed: string; more: boolean }>(
          `select removed::text, more from ${database.names.quoted}.retain_stream($1, $2, $3)`,
          [id, WEIGH_EVENTS, LOCK_WAIT_MS],
          'sluice_retain',
        );
        removed += Number(row?.removed ?? 0);
        more = row?.more ?? false;
      }
    } catch (error) {
      if (!(error instanceof SluiceError && error.code === 'overloaded')) throw error;
      round.held += 1;
    }
    round.removed += removed;
    if (removed > 0) round.trimmed += 1;
  }

  async #purge(signal: AbortSignal): Promise<void> {
    const { database } = this.#options;
    for (let more = true; more && !signal.aborted;) {
      const started = performance.now();
      const [row] = await database.query<{ removed: string; more: boolean }>(
        `select removed::text, more from ${database.names.quoted}.purge_events($1)`,
        [PURGE_BATCH],
        'sluice_purge',
      );
      more = row?.more ?? false;
      const events = Number(row?.removed ?? 0);
      const ms = performance.now() - started;
      if (events > 0) report('sluice:retention.purged', () => ({ events, more, ms }));
      if (more) await nap(restForDuty(ms, PURGE_DUTY), signal).done;
    }
  }

  // Whether a stream is beyond a bound, as far as a few probes of the primary key tell; one with a bound in bytes is
  // looked at when anything has changed since it was settled.
  async #page(after: string): Promise<Candidate[]> {
    const { database } = this.#options;
    const schema = database.names.quoted;
    return database.query<Candidate>(
      `select s.id::text, coalesce(
         last."offset" - s.trimmed_to > s.max_count
         or first.at < ${schema}.age_limit(s.max_age_ms)
         or s.max_bytes is not null and (w.settled_for is distinct from s.max_bytes
           or w.from_offset <> s.trimmed_to or w.to_offset <> coalesce(last."offset", s.trimmed_to)),
         false) as due
       from ${schema}.streams s
       left join ${schema}.weights w on w.stream_id = s.id
       left join lateral (
         select e."offset" from ${schema}.events e
         where e.stream_id = s.id and e."offset" > s.trimmed_to order by e."offset" desc limit 1
       ) last on true
       left join lateral (
         select e.at from ${schema}.events e where e.stream_id = s.id and e."offset" = s.trimmed_to + 1
       ) first on true
       where s.id > $1 and (s.max_age_ms is not null or s.max_count is not null or s.max_bytes is not null)
       order by s.id limit ${PAGE}`,
      [after],
      'sluice_retained',
    );
  }

  async #attempt(where: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (error instanceof SluiceError && error.code === 'closed') return;
      this.#options.logger.warn({ error }, `${where} failed; it is tried again`);
      report('sluice:background.failed', () => ({ where, error }));
    }
  }
}

/** A stream with a bound, and whether it is beyond one. */
interface Candidate {
  readonly id: string;
  readonly due: boolean;
}
