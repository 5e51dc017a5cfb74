// What is no longer good although it has not expired. Revocations are events of an ordinary stream: every process reads
// all of them, from the start and then live, so none is missed by a lost notification or a restart, and whoever can
// publish can revoke, in a transaction too. Refuses what was revoked and ends the connections it has opened. Nobody new
// gets in unless the stream has been read lately.
import { timestamp } from '../db/timestamp.ts';
import type { StreamEvent } from '../log/event.ts';
import type { Sluice } from '../sluice/connect.ts';
import { nap } from '../util/abort.ts';
import { backoffMs, type Backoff } from '../util/backoff.ts';
import { wallClockMs } from '../util/clock.ts';
import { deferred } from '../util/deferred.ts';
import { report } from '../util/diagnostics.ts';
import { SluiceError } from '../util/errors.ts';
import type { LoggerLike } from '../util/logger.ts';
import { random } from '../util/random.ts';
import { streamNameProblem } from '../protocol/wire.ts';
import type { Grant } from './authorize.ts';
import { RevocationList, toRevocation, type GrantAsked, type Revocation } from './revocation-list.ts';

export interface RevocationsOptions {
  readonly sluice: Sluice;
  readonly stream: string;
  /** How long a revocation counts, in milliseconds; the stream is made to keep them for so long. */
  readonly keepMs: number;
  /** When the stream was last read longer ago than that, it is read before anybody is let in. */
  readonly confirmedMs: number;
  readonly logger: LoggerLike;
}

/** A connection. */
export interface Revocable {
  end(reason: 'revoked'): void;
  onceEnded(told: () => void): void;
}

const RETRY: Backoff = { initialMs: 250, maxMs: 5000 };
/**
 * So much the clocks of the database and of this machine may differ, and a hook may have looked before a revocation was
 * committed: within it a revocation that was there already counts against what a hook answers.
 */
const SKEW_MS = 5000;

export class Revocations {
  readonly #options: RevocationsOptions;
  readonly #list: RevocationList;
  readonly #watched = new Map<Revocable, GrantAsked>();
  readonly #stopping = new AbortController();
  #ready: Promise<void> | undefined;
  #cursor = 'start';
  /** The last event taken in: what is confirmed has been read before it is delivered, and counts once. */
  #heard = 0n;
  /** All was read once: what is read now is what came since. */
  #loaded = false;
  /** By performance.now(): all that was revoked then is known. */
  #confirmedAt = Number.NEGATIVE_INFINITY;
  #confirming: Promise<void> | undefined;

  /** @throws RangeError */
  constructor(options: RevocationsOptions) {
    const problem = streamNameProblem(options.stream);
    if (problem !== undefined) throw new RangeError(`revocations: ${problem}`);
    this.#options = options;
    this.#list = new RevocationList(options.keepMs);
  }

  /**
   * Resolves once all that was revoked until a while ago is known: what follows the stream does not tell when it cannot.
   * The first call begins.
   *
   * @throws SluiceError overloaded
   */
  async ready(): Promise<void> {
    if (!this.#ready) void this.#follow();
    await this.#ready;
    if (performance.now() - this.#confirmedAt <= this.#options.confirmedMs) return;
    this.#confirming ??= this.#confirm();
    await this.#confirming;
  }

  /**
   * False: the grant is revoked. Otherwise the connection ends when it is.
   *
   * @param askedAt when the hook was asked, by performance.now(): for a grant that does not say when it was issued
   */
  watch(connection: Revocable, { id, principal, issuedAt }: Grant, askedAt: number): boolean {
    const grant = { id, principal, issuedAtMs: issuedAt?.getTime(), askedAt };
    if (this.#list.covers(grant)) return false;
    this.#watched.set(connection, grant);
    connection.onceEnded(() => this.#watched.delete(connection));
    return true;
  }

  /** Resolves when it is committed and in force here; elsewhere as soon as it arrives. */
  async revoke(revocation: Revocation): Promise<void> {
    const { principal, tokenId, issuedBefore = new Date(wallClockMs()) } = revocation;
    const data = { principal, tokenId, issuedBefore: timestamp('issuedBefore', issuedBefore) };
    if (!toRevocation(data)) throw new TypeError('revoke needs a principal or a tokenId: strings, not empty');
    this.#stopping.signal.throwIfAborted();
    await this.ready();
    await this.#options.sluice.stream(this.#options.stream).append(data);
    this.#take(data, wallClockMs(), performance.now());
  }

  close(): void {
    this.#stopping.abort(new SluiceError('closed', 'the handler is closed'));
  }

  async #follow(): Promise<void> {
    const { sluice, stream } = this.#options;
    const { signal } = this.#stopping;
    for (let attempt = 0; !signal.aborted; attempt += 1) {
      const loaded = deferred();
      loaded.promise.catch(() => {}); // perhaps nobody waits
      this.#ready = loaded.promise;
      try {
        await this.#load();
        loaded.resolve();
        attempt = 0;
        for await (const event of sluice.stream(stream).subscribe({ after: this.#cursor, signal })) {
          this.#hear(event, performance.now());
          this.#cursor = event.cursor;
        }
        return; // closed
      } catch (error) {
        const reason: unknown = signal.aborted ? signal.reason : unreadable(error);
        loaded.reject(reason);
        this.#ready = rejected(reason); // until the next attempt, also if this one had loaded
        if (!signal.aborted) this.#failed(error);
        await nap(backoffMs(attempt, RETRY, random()), signal).done;
      }
    }
  }

  async #confirm(): Promise<void> {
    try {
      await this.#load();
    } catch (error) {
      throw this.#stopping.signal.aborted ? this.#stopping.signal.reason : unreadable(error);
    } finally {
      this.#confirming = undefined;
    }
  }

  /** Everything there is, from where it stands. */
  async #load(): Promise<void> {
    const { sluice, stream, keepMs } = this.#options;
    for (let upToDate = false; !upToDate;) {
      const askedAt = performance.now();
      const page = await sluice
        .stream(stream)
        .read({ after: this.#cursor, signal: this.#stopping.signal })
        .catch(async (error: unknown) => {
          if (!isMissing(error)) throw error;
          await sluice.createStream(stream, { maxAgeMs: keepMs }).catch(unlessThere);
          return undefined;
        });
      if (!page) continue;
      const now = performance.now();
      for (const event of page.events) {
        const ageMs = Math.max(0, wallClockMs() - event.at.getTime());
        this.#hear(event, this.#loaded ? now : now - ageMs + SKEW_MS);
      }
      this.#cursor = page.cursor;
      upToDate = page.upToDate;
      if (upToDate) this.#confirmedAt = askedAt;
    }
    this.#loaded = true;
  }

  #hear({ offset, data, at }: StreamEvent, heardAt: number): void {
    if (offset <= this.#heard) return;
    this.#heard = offset;
    this.#take(data, at.getTime(), heardAt);
    // By the stream's own time: this machine's clock may jump ahead and come back, and what was forgotten would not.
    this.#list.prune(at.getTime());
  }

  #take(data: unknown, atMs: number, heardAt: number): void {
    const revocation = toRevocation(data);
    if (!revocation) return this.#malformed();
    this.#list.add(revocation, atMs, heardAt);
    for (const [connection, grant] of this.#watched) if (this.#list.covers(grant)) connection.end('revoked');
  }

  #malformed(): void {
    const { logger, stream } = this.#options;
    const error = new SluiceError(
      'payload_invalid',
      'a revocation without principal or tokenId revokes nothing',
    );
    logger.error({ error, stream }, 'a revocation cannot be understood');
    report('sluice:background.failed', () => ({ where: 'revocations', error }));
  }

  #failed(error: unknown): void {
    const { logger, stream } = this.#options;
    // What is gone was older than any token can be, or is another history: read what there is now.
    if (isLost(error)) [this.#cursor, this.#heard, this.#loaded] = ['start', 0n, false];
    logger.error({ error, stream }, 'revocations cannot be read; nobody new is let in until they can');
    report('sluice:background.failed', () => ({ where: 'revocations', error }));
  }
}

const unreadable = (cause: unknown): SluiceError =>
  new SluiceError('overloaded', 'revocations cannot be read', { cause });

function rejected(reason: unknown): Promise<void> {
  const promise = Promise.reject(reason);
  promise.catch(() => {});
  return promise;
}

const codeOf = (error: unknown): string | undefined =>
  error instanceof SluiceError ? error.code : undefined;

const isMissing = (error: unknown): boolean => codeOf(error) === 'stream_not_found';

const isLost = (error: unknown): boolean =>
  isMissing(error) || codeOf(error) === 'cursor_expired' || codeOf(error) === 'cursor_reset';

function unlessThere(error: unknown): void {
  if (codeOf(error) !== 'stream_exists') throw error;
}
