// The leases that a consumer holds: keeps them alive, and tells the database what has become of their events; at once
// when one is finished, else a few times a second, so that a crash costs little more than what was in hand.
import { report } from '../util/diagnostics.ts';
import type { Finished } from './finished.ts';
import type { Groups } from './groups.ts';
import { HeldLease } from './held-lease.ts';
import { settleLease, type FailurePolicy, type GroupRef, type Settled, type Settlement } from './store.ts';
import type { Taken } from './claimer.ts';

/** How often what was handled is told, while a lease is worked on. */
const PROGRESS_MS = 100;

export interface LeasesOptions {
  readonly groups: Groups;
  readonly group: GroupRef;
  readonly leaseMs: number;
  readonly policy: FailurePolicy;
  readonly finished: Finished;
  /** All events of a lease are recorded. */
  onSettled(lease: HeldLease): void;
  onLost(lease: HeldLease, error: unknown): void;
  /** There is something to be had that a lease kept from everybody. */
  onMore(): void;
  /** Events were given up. */
  onDead(count: number): void;
  /** Events are to be handed out again, at a time of their own. */
  onAgain(): void;
}

export class Leases {
  readonly #options: LeasesOptions;
  readonly #held = new Set<HeldLease>();
  readonly #telling = new Set<Promise<void>>();
  /** Aborts when there is no time left to try again. */
  readonly #givingUp = new AbortController();
  readonly #extending: NodeJS.Timeout;
  #progress: NodeJS.Timeout | undefined;

  constructor(options: LeasesOptions) {
    this.#options = options;
    this.#extending = setInterval(() => this.#tellAll(options.leaseMs), options.leaseMs / 3);
    this.#extending.unref();
  }

  hold({ claimed, token, askedAt }: Taken): HeldLease {
    const { leaseMs } = this.#options;
    const lease: HeldLease = new HeldLease({
      token,
      events: claimed.events.length,
      leaseMs,
      askedAt,
      giveUp: this.#givingUp.signal,
      settle: async (settlement) => this.#settle(token, settlement),
      onSettled: () => {
        this.#held.delete(lease);
        void this.tell(lease);
        this.#options.onSettled(lease);
      },
      onLost: (error) => {
        this.#held.delete(lease);
        this.#options.onLost(lease, error);
      },
      onMore: () => this.#options.onMore(),
      onAgain: () => this.#options.onAgain(),
      onDead: (count) => this.#options.onDead(count),
    });
    this.#held.add(lease);
    return lease;
  }

  /** Never rejects. */
  tell(lease: HeldLease, extendMs?: number): Promise<void> {
    const telling: Promise<void> = this.#tell(lease, extendMs).finally(() => this.#telling.delete(telling));
    this.#telling.add(telling);
    return telling;
  }

  /** Within a moment, with what else comes until then. */
  tellSoon(): void {
    if (this.#progress) return;
    this.#progress = setTimeout(() => {
      this.#progress = undefined;
      this.#tellAll();
    }, PROGRESS_MS);
    this.#progress.unref();
  }

  /** Tells what is left to tell, once. */
  async close(): Promise<void> {
    this.#givingUp.abort();
    this.#options.finished.close();
    clearInterval(this.#extending);
    clearTimeout(this.#progress);
    this.#tellAll();
    await Promise.all(this.#telling);
  }

  #tellAll(extendMs?: number): void {
    for (const lease of this.#held) void this.tell(lease, extendMs);
  }

  async #settle(token: string, settlement: Settlement): Promise<Settled> {
    const { groups, group, policy, finished } = this.#options;
    const settle = async (): Promise<Settled> => settleLease(groups.database, { token, settlement, policy });
    if (group.partitions !== null || !isAllDone(settlement)) return settle();
    await finished.tell(token, settle);
    return NOTHING_LEFT;
  }

  async #tell(lease: HeldLease, extendMs: number | undefined): Promise<void> {
    await lease.flush(extendMs);
    const { name, stream } = this.#options.group;
    report('sluice:group.settled', () => ({ stream: stream.name, group: name }));
  }
}

const NOTHING_LEFT: Settled = { expiresAt: 0, dead: 0, unacked: [], more: false };

const isAllDone = ({ done, failed, returned, again, acked, extendMs }: Settlement): boolean =>
  done === 'rest' &&
  extendMs === undefined &&
  [failed, returned, again, acked].every((others) => (others?.length ?? 0) === 0);
