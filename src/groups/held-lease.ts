// A lease that a consumer works through. Records of each event, once, whether it is done, failed or given back, and tells
// the database now and then, and at the end. What cannot be told in time is lost: somebody else is handed those events.
import { nap } from '../util/abort.ts';
import { backoffMs } from '../util/backoff.ts';
import { SluiceError } from '../util/errors.ts';
import { random } from '../util/random.ts';
import type { Failure, Settled, Settlement } from './store.ts';

/** Between attempts to tell. */
const RETRY = { initialMs: 50, maxMs: 2000 };

/** Nobody takes a lease back before its end: one that is gone sooner was settled by an attempt whose answer got lost. */
const TOLD_BEFORE: Settled = { expiresAt: 0, dead: 0, unacked: [], more: true };
const isRefusal = (error: unknown): boolean => error instanceof SluiceError && error.code === 'lease_lost';

export interface HeldLeaseOptions {
  readonly token: string;
  /** How many events it has. */
  readonly events: number;
  readonly leaseMs: number;
  /** When it was asked for, by performance.now(): it ends `leaseMs` after that at the earliest. */
  readonly askedAt: number;
  /** Aborts when there is no time left to try again. */
  readonly giveUp: AbortSignal;
  settle(settlement: Settlement): Promise<Settled>;
  /** All its events are recorded. */
  onSettled(): void;
  /** It is over, and not because all is settled: what was not recorded is not ours any more. */
  onLost(error: unknown): void;
  /** There is something to be had that it kept from everybody. */
  onMore(): void;
  /** Events are to be handed out again, at a time of their own. */
  onAgain(): void;
  /** Events were given up. */
  onDead(count: number): void;
}

export class HeldLease {
  readonly #options: HeldLeaseOptions;
  readonly #over = new AbortController();
  readonly beganAt: number = performance.now();
  #endsAt: number;
  #left: number;
  #done: bigint[] = [];
  #failed: Failure[] = [];
  #doubt = false;
  #returned: bigint[] = [];
  #again: (readonly bigint[])[] = [];
  #againMs = 0;
  #acked: bigint[] = [];
  #flushing: Promise<void> | undefined;

  constructor(options: HeldLeaseOptions) {
    this.#options = options;
    this.#endsAt = options.askedAt + options.leaseMs;
    this.#left = options.events;
  }

  get token(): string {
    return this.#options.token;
  }

  /** Whether it may still be worked on. */
  get isOurs(): boolean {
    return !this.#over.signal.aborted && performance.now() < this.#endsAt;
  }

  /** Whether all its events are recorded. */
  get isSettled(): boolean {
    return this.#left === 0;
  }

  /** Whether some of it is still to be worked on. */
  get isOpen(): boolean {
    return this.isOurs && !this.isSettled;
  }

  get events(): number {
    return this.#options.events;
  }

  done(offsets: readonly bigint[]): void {
    this.#done.push(...offsets);
    this.#record(offsets.length);
  }

  acked(offsets: readonly bigint[]): void {
    this.#acked.push(...offsets);
    this.#record(offsets.length);
  }

  /** `doubt`: a transaction may have acknowledged it all the same. */
  failed(failure: Failure, doubt: boolean): void {
    this.#failed.push(failure);
    this.#doubt ||= doubt;
    this.#record(1);
  }

  returned(offsets: readonly bigint[]): void {
    this.#returned.push(...offsets);
    this.#record(offsets.length);
  }

  /**
   * One event of each set failed, nobody knows which: none of them is handed out for `ms` milliseconds. With 0 none is
   * suspected of anything: nobody waits for them any longer. Of sets that are told together, the longest `ms` counts for
   * all: to be handled by themselves costs those that are blameless time, and nothing else.
   */
  again(sets: readonly (readonly bigint[])[], { ms, doubt }: { ms: number; doubt: boolean }): void {
    this.#again.push(...sets);
    this.#againMs = Math.max(this.#againMs, ms);
    this.#doubt ||= doubt;
    this.#record(sets.reduce((sum, set) => sum + set.length, 0));
  }

  /** Tells what was recorded, and makes the lease last on. Never rejects. */
  async flush(extendMs?: number): Promise<void> {
    while (this.#flushing) await this.#flushing; // and with this one, what is recorded until then
    if (this.#over.signal.aborted || (!this.#hasNews && (extendMs === undefined || this.isSettled))) return;
    this.#flushing = this.#tell(extendMs);
    await this.#flushing;
    this.#flushing = undefined;
  }

  /** Makes the lease last for so long from now. @throws SluiceError lease_lost */
  async extend(ms: number): Promise<void> {
    await this.flush(ms);
    this.#over.signal.throwIfAborted();
    if (this.isSettled) throw new SluiceError('lease_lost', 'the lease is over: nothing of it is left to do');
  }

  get #hasNews(): boolean {
    return [this.#done, this.#failed, this.#returned, this.#again, this.#acked].some(
      ({ length }) => length > 0,
    );
  }

  #record(count: number): void {
    this.#left -= count;
    if (count > 0 && this.#left === 0) this.#options.onSettled();
  }

  async #tell(extendMs: number | undefined): Promise<void> {
    const isLast = this.#left === 0;
    const settlement: Settlement = {
      done: isLast ? 'rest' : this.#done,
      failed: this.#failed,
      returned: this.#returned,
      again: this.#again,
      againMs: this.#againMs,
      acked: this.#acked,
      doubt: this.#doubt,
      extendMs,
    };
    const failed = this.#failed.length;
    const mayComeAgain = failed > 0 || this.#again.length > 0;
    [this.#done, this.#failed, this.#returned, this.#again, this.#acked] = [[], [], [], [], []];
    this.#doubt = false;
    this.#againMs = 0;
    const askedAt = performance.now();
    const settled = await this.#insist(settlement);
    if (!settled) return;
    if (extendMs !== undefined) this.#endsAt = Math.max(this.#endsAt, askedAt + extendMs);
    if (failed > 0 && settled.dead > 0) this.#options.onDead(settled.dead);
    if (settled.more) this.#options.onMore();
    if (mayComeAgain) this.#options.onAgain();
    if (settled.unacked.length === 0) return;
    const error = 'acknowledged in a transaction that did not commit';
    this.#failed.push(...settled.unacked.map((offset) => ({ offset, error })));
    this.#doubt = true;
    await this.#tell(undefined);
  }

  /** Until it is told, or too late. */
  async #insist(settlement: Settlement): Promise<Settled | undefined> {
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await this.#options.settle(settlement);
      } catch (error) {
        const { giveUp } = this.#options;
        const isOver = performance.now() >= this.#endsAt;
        if (attempt > 0 && !isOver && settlement.done === 'rest' && isRefusal(error)) return TOLD_BEFORE;
        const mayRetry = error instanceof SluiceError && error.retryable && !giveUp.aborted;
        if (!mayRetry || isOver) return this.#lost(error);
        await nap(backoffMs(attempt, RETRY, random()), giveUp).done;
      }
    }
  }

  /** It cannot be worked on any longer. */
  expire(): void {
    if (this.#over.signal.aborted) return;
    const { leaseMs } = this.#options;
    this.#lost(
      new SluiceError(
        'lease_lost',
        `the lease of ${leaseMs} ms was over before it could be extended; its events are handed out again: give leaseMs more room`,
      ),
    );
  }

  #lost(error: unknown): undefined {
    this.#over.abort(error);
    this.#options.onLost(error);
  }
}
