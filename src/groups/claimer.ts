// Decides when a consumer asks for events, and asks: when it has room and there may be something, one call at a time.
// It learns that from its own answers, from what others tell, and from the clock, which bounds how long it can have
// heard nothing of it.
import { randomUUID } from 'node:crypto';
import { backoffMs, jittered, type Backoff } from '../util/backoff.ts';
import { report } from '../util/diagnostics.ts';
import { SluiceError } from '../util/errors.ts';
import { random } from '../util/random.ts';
import { Due } from './due.ts';
import type { Finished } from './finished.ts';
import type { Groups, Hints, Member } from './groups.ts';
import type { Membership } from './membership.ts';
import { MAX_CLAIM } from './options.ts';
import { reportClaim } from './reports.ts';
import { claimEvents, type Claimed, type ClaimRequest, type GroupRef } from './store.ts';
import { turnMs } from './turn.ts';

/** Bytes of data in one lease, above which it ends (it holds at least one event). */
export const MAX_LEASE_BYTES: number = 8 * 2 ** 20;
/** Rows may be committed a little after the time they name. */
const LOOK_BACK_S = 1;
/** Between two looks at leases that have ended, while some were left. */
const LEFT_MS = 100;
/** Timers hold no more. */
const MAX_TIMER_MS = 2 ** 31 - 1;
const RETRY: Backoff = { initialMs: 100, maxMs: 5000 };

/** A lease just taken, and when it was asked for, by performance.now(). */
export interface Taken {
  readonly claimed: Claimed;
  /** As whom. */
  readonly member: string;
  readonly token: string;
  readonly askedAt: number;
}

export interface ClaimerOptions {
  readonly groups: Groups;
  readonly group: GroupRef;
  readonly member: Member;
  readonly membership: Membership;
  readonly finished: Finished;
  /** What hardly changes from claim to claim. */
  request(this: void): Pick<ClaimRequest, 'member' | 'leaseMs' | 'maxAttempts' | 'perSecond'>;
  /** Events that there is room for now. `isMore`: the last answer said that there is more. */
  room(isMore: boolean): number;
  /** Keys of which nothing more is wanted now. */
  blocked(): readonly string[];
  onTaken(taken: Taken): void;
  /** What was taken may be begun: if there is more to be had, that was asked for before. */
  onAnswered(): void;
  /** Asking again would not help. */
  onFatal(error: SluiceError): void;
}

export class Claimer implements Hints {
  readonly #options: ClaimerOptions;
  /** How far there is something, as was heard and not asked for yet. */
  #head = 0n;
  #cursor = 0n;
  #wanted = true;
  #isMore = false;
  /** Look at all that is due, and at expired leases. */
  #isFull = true;
  #since: number | undefined;
  #lookedAt = -Infinity;
  /** When leases that end are to be looked at, by performance.now(). */
  #lookAgainAt = Infinity;
  /** When, although others keep it busy: some that had ended were left. */
  #leftAt = Infinity;
  readonly #due = new Due();
  /** When it looks again, whatever it knows, by performance.now(). */
  #pollAt = Infinity;
  #failures = 0;
  #isOver = false;
  #claiming: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #turn: NodeJS.Timeout | undefined;
  /** When that comes, by performance.now(). */
  #turnAt = Infinity;

  constructor(options: ClaimerOptions) {
    this.#options = options;
  }

  /** The claim under way. */
  get claiming(): Promise<void> | undefined {
    return this.#claiming;
  }

  moved(head: bigint): void {
    if (head <= this.#head) return;
    this.#head = head;
    this.#awaitTurn();
  }

  taken(cursor: bigint): void {
    if (cursor > this.#cursor) this.#cursor = cursor;
  }

  due(ms: number): void {
    const now = performance.now();
    this.#due.told(now + ms, now);
    this.#arm();
  }

  look(): void {
    this.#isFull = true;
    this.want();
  }

  /** There is something to be had. */
  want(): void {
    this.#wanted = true;
    this.wake();
  }

  /** There may be room now. */
  wake(): void {
    if (!this.#wanted || this.#claiming || this.#isOver) return;
    const max = Math.min(this.#options.room(this.#isMore), MAX_CLAIM);
    if (max <= 0) return;
    this.#claiming = this.#claim(max).finally(() => {
      this.#claiming = undefined;
      this.wake();
      // Handlers may keep this thread busy: the next claim leaves before they begin.
      if (this.#claiming) setImmediate(() => this.#options.onAnswered());
      else this.#options.onAnswered();
    });
  }

  /** Asks no more; resolves when the last answer is there. */
  async close(): Promise<void> {
    this.#isOver = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#turn);
    await this.#claiming;
  }

  // The stream goes on: whose turn it is goes for it, the others see in a moment whether it is still there.
  #awaitTurn(): void {
    if (this.#head <= this.#cursor || this.#isOver) return;
    const head = this.#head;
    const ms = turnMs(this.#options.membership, head);
    const at = performance.now() + ms;
    if (at >= this.#turnAt) return; // it looks sooner, for what came before
    clearTimeout(this.#turn);
    this.#turnAt = at;
    const go = (): void => {
      this.#turnAt = Infinity;
      if (this.#cursor >= head || this.#head < head) return this.#awaitTurn();
      this.want();
    };
    if (ms === 0) return go();
    this.#turn = setTimeout(go, ms);
    this.#turn.unref();
  }

  async #claim(max: number): Promise<void> {
    const { groups, group, membership, finished, request } = this.#options;
    const askedAt = performance.now();
    const lookAt = Math.min(this.#leftAt, this.#lookedAt + groups.fallbackPollMs);
    const full = this.#isFull || askedAt >= lookAt;
    this.#wanted = false;
    this.#isFull = false;
    const token = randomUUID();
    const asked = request();
    const head = this.#head;
    const done = finished.take();
    try {
      const claimed = await claimEvents(groups.database, group, {
        ...asked,
        token,
        max,
        maxBytes: MAX_LEASE_BYTES,
        since: full || this.#since === undefined ? undefined : this.#since - LOOK_BACK_S,
        members: membership.members,
        blocked: group.partitions === null ? [] : this.#options.blocked(),
        done: done.tokens,
      });
      done.answered(claimed.kept);
      if (full) {
        this.#lookedAt = askedAt;
        // A lease taken after this look lasts as long as ours: none of which it does not tell ends before that.
        const endsInMs = Math.max(claimed.endsInMs ?? Infinity, LEFT_MS);
        this.#lookAgainAt = performance.now() + Math.min(endsInMs, asked.leaseMs);
        this.#leftAt = claimed.endsInMs === 0 ? this.#lookAgainAt : Infinity;
      }
      this.#failures = 0;
      // What was heard before is answered, also where nothing came of it: the group is paused or throttled, or that was not so.
      if (!claimed.more && this.#head === head) this.#head = claimed.cursor;
      const inTurns = group.partitions === null || (asked.perSecond === undefined && full);
      this.#answered(claimed, askedAt, inTurns);
      this.#options.onTaken({ claimed, member: asked.member, token, askedAt });
    } catch (error) {
      done.failed(error);
      this.#failed(error);
    }
  }

  #answered(claimed: Claimed, askedAt: number, inTurns: boolean): void {
    const { groups, group, member, membership } = this.#options;
    const { events, cursor, more, others, elsewhere, dueInMs = Infinity, lookedAt } = claimed;
    const names = { stream: group.stream.name, group: group.name };
    const ms = performance.now() - askedAt;
    report('sluice:group.claimed', () => ({ ...names, events: events.length, more, ms }));
    reportClaim(groups, group, claimed);
    this.#since = lookedAt ?? this.#since;
    if (others) groups.look(group.id);
    else if (cursor > this.#cursor && membership.members > 1 && !more) groups.taken(member, cursor);
    this.#cursor = cursor;
    this.#wanted ||= more;
    this.#isMore = more;
    if (more) return;
    const now = performance.now();
    this.#pollAt = Math.min(this.#lookAgainAt, now + jittered(groups.fallbackPollMs, random()));
    const isLate = this.#isThrottled && inTurns && events.length === 0;
    const isNews = this.#due.learn(now + dueInMs, now, isLate);
    // What this one may not have in a keyed group, others are to ask for.
    if (isNews && inTurns && !elsewhere && membership.members > 1) groups.due(member, dueInMs);
    this.#arm();
    this.#awaitTurn();
  }

  get #isThrottled(): boolean {
    return this.#options.request().perSecond !== undefined;
  }

  #arm(): void {
    const dueAt = this.#due.askAt(this.#options.membership.place, this.#isThrottled);
    const at = Math.min(dueAt, this.#pollAt);
    this.#lookIn(Math.max(Math.ceil(at - performance.now()), 0)); // a timer cuts off fractions, and nothing is due too early
  }

  #timeHasCome(): void {
    const { groups, group } = this.#options;
    this.look();
    // Whom the others wait for has no room: that would cost the group its rate, so whoever has goes.
    if (!this.#claiming && this.#isThrottled && this.#due.isFirst) groups.look(group.id);
  }

  #failed(error: unknown): void {
    if (this.#isOver) return;
    if (error instanceof SluiceError && !error.retryable) return this.#options.onFatal(error);
    const { groups, group } = this.#options;
    groups.logger.warn({ error, group: group.name }, 'a consumer could not claim events; it tries again');
    report('sluice:background.failed', () => ({ where: 'group claim', error }));
    this.#lookIn(backoffMs(this.#failures, RETRY, random()));
    this.#failures += 1;
  }

  #lookIn(ms: number): void {
    clearTimeout(this.#timer);
    if (this.#isOver) return;
    this.#timer = setTimeout(() => this.#timeHasCome(), Math.min(ms, MAX_TIMER_MS));
    this.#timer.unref();
  }
}
