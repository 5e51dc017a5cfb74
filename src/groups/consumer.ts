// One consumer of a group: takes what its handlers have room for, keeps its leases alive while they work, tells the
// database what has become of the events, and ends without leaving any behind.
import { randomUUID } from 'node:crypto';
import type { Decode } from '../log/decode.ts';
import { nap, onAbort } from '../util/abort.ts';
import { deferred } from '../util/deferred.ts';
import { SluiceError } from '../util/errors.ts';
import { Claimer, type Taken } from './claimer.ts';
import { Crew, type Handler } from './crew.ts';
import { Failures } from './failures.ts';
import { Finished } from './finished.ts';
import type { Groups, Hints, Member } from './groups.ts';
import type { HeldLease } from './held-lease.ts';
import { KeyGuard } from './key-guard.ts';
import { Leases } from './leases.ts';
import { Membership } from './membership.ts';
import type { ConsumeSettings } from './options.ts';
import { reportDead, reportTrouble } from './reports.ts';
import type { FailurePolicy, GroupRef } from './store.ts';
import type { Item, Outcome, Unit } from './unit.ts';
import { Window } from './window.ts';

/** After this long in a handler a key is stuck: where all that is queued stands behind such keys, it goes back. */
const STUCK_MS = 200;
/** Events held ready for fast batch handlers beside those in hand, at most; one batch, if that is more. */
const MAX_READY = 1000;

export interface ConsumerOptions<T> {
  readonly groups: Groups;
  readonly group: GroupRef;
  readonly handler: Handler<T>;
  readonly decode: Decode<T>;
  readonly settings: ConsumeSettings;
  readonly policy: FailurePolicy;
}

export class Consumer<T> implements Member {
  readonly group: GroupRef;
  readonly #options: ConsumerOptions<T>;
  readonly #crew: Crew<T>;
  readonly #claimer: Claimer;
  readonly #membership: Membership;
  readonly #window: Window;
  readonly #failures: Failures;
  readonly #finished: Finished;
  readonly #leases: Leases;
  readonly #stopping = new AbortController();
  readonly #ended = deferred();
  readonly #keys: KeyGuard;
  #unsticking: NodeJS.Timeout | undefined;
  /** The name it claims under: only who has events of a partition in hand is handed more of that partition. */
  #member: string = randomUUID();
  #failure: SluiceError | undefined;
  /** The last lease of a suspect event. Beside it nothing is claimed: if it ends this process, all that is held is struck. */
  #suspect: HeldLease | undefined;

  constructor(options: ConsumerOptions<T>) {
    const { groups, group, settings, policy } = options;
    this.#options = options;
    this.group = group;
    this.#membership = new Membership(groups, group, this.#member);
    this.#window = this.#makeWindow();
    this.#failures = new Failures({
      groups,
      group,
      settings,
      onPause: () => this.#return(this.#crew.remove()),
      onResume: () => this.#claimer.look(),
    });
    this.#finished = new Finished(settings.leaseMs / 3);
    this.#leases = this.#makeLeases();
    this.#crew = new Crew({
      ...options,
      database: groups.database,
      concurrency: settings.concurrency,
      timeoutMs: settings.handlerTimeoutMs,
      backoff: policy,
      onEnd: (...end) => this.#handled(...end),
    });
    this.#keys = new KeyGuard({ claiming: () => this.#claimer.claiming, onFree: () => this.#claimer.look() });
    this.#claimer = new Claimer({
      groups,
      group,
      member: this,
      membership: this.#membership,
      finished: this.#finished,
      request: () => ({
        member: this.#member,
        leaseMs: settings.leaseMs,
        maxAttempts: policy.maxAttempts,
        perSecond: settings.perSecond,
      }),
      room: (isMore) => this.#room(isMore),
      blocked: () => this.#keys.blocked,
      onTaken: (taken) => this.#take(taken),
      onAnswered: () => {
        if (!this.#isHalted) this.#crew.begin();
      },
      onFatal: (error) => {
        this.#failure = error;
        this.#stopping.abort(error);
      },
    });
  }

  /** Resolves when it was stopped and nothing of it is left. @throws SluiceError that makes going on pointless */
  async run(signal: AbortSignal | undefined): Promise<void> {
    const leave = await this.#options.groups.join(this);
    const stop = (): void => this.#stopping.abort(signal?.reason);
    const letGo = signal && onAbort(signal, stop);
    if (signal?.aborted === true) stop();
    try {
      const stopped = deferred();
      this.#stopping.signal.addEventListener('abort', () => stopped.resolve(), { once: true });
      await this.#membership.enter();
      this.#options.groups.arrived(this);
      this.#claimer.wake();
      if (!this.#stopping.signal.aborted) await stopped.promise;
    } finally {
      letGo?.();
      await this.#drain();
      leave();
      this.#ended.resolve();
    }
    if (this.#failure) throw this.#failure;
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new SluiceError('closed', 'this Sluice is closed'));
    await this.#ended.promise;
  }

  get hints(): Hints {
    return this.#claimer;
  }

  recount(): void {
    this.#membership.recount();
  }

  get #isHalted(): boolean {
    return this.#stopping.signal.aborted || this.#failures.isPaused;
  }

  #room(isMore: boolean): number {
    if (this.#isHalted || this.#suspect?.isOpen === true) return 0;
    const load = this.#crew.load(this.#unit);
    const isBatch = this.#options.handler.kind === 'batch';
    const room = isBatch ? this.#window.batchRoom(load, isMore) : this.#window.room(load);
    const mayShed = this.group.partitions !== null && load.free > 0 && load.queued > 0;
    return room <= 0 && mayShed ? this.#shed() : room;
  }

  // Handlers are free, and all that is queued stands behind keys in hand: after a while it makes room for other keys.
  #shed(): number {
    const stuck = this.#crew.keysInHand(STUCK_MS);
    if (stuck.length === 0) {
      this.#unsticking ??= setTimeout(() => {
        this.#unsticking = undefined;
        this.#claimer.wake();
      }, STUCK_MS).unref();
      return 0;
    }
    this.#keys.stick(stuck);
    this.#return(this.#crew.removeBehind());
    return this.#window.room(this.#crew.load(this.#unit));
  }

  #take(taken: Taken): void {
    const { events, suspect } = taken.claimed;
    if (events.length === 0) return;
    const lease = this.#leases.hold(taken);
    const alone = suspect && events.length === 1;
    if (alone) this.#suspect = lease;
    // Member by member: there are many items, and a spread costs more than all the rest.
    const items = events.map(({ record, attempt }): Item => ({
      record,
      attempt,
      key: record.key,
      lease,
      alone,
    }));
    const isCurrent = this.group.partitions === null || taken.member === this.#member;
    const isRefused = this.#isHalted || !isCurrent ? () => true : ({ key }: Item) => this.#keys.refuses(key);
    const refused = items.filter(isRefused);
    this.#return(refused);
    this.#crew.add(refused.length === 0 ? items : items.filter((item) => !isRefused(item)));
  }

  #handled(unit: Unit, outcome: Outcome, behind: readonly Item[]): void {
    this.#keys.unstick(unit);
    if (outcome.kind === 'abandoned') return this.#return(behind); // the end: nothing is begun any more
    const failed = outcome.kind === 'done' ? [...unit.failures.keys()] : unit.offsets;
    if (failed.length > 0) this.#failures.failed(unit, outcome);
    else this.#failures.succeeded();
    const open = unit.isPromised ? unit.offsets : failed; // not known to be done, or known not to be
    if (this.group.partitions !== null && open.length > 0) {
      const keys = unit.items.filter(({ record }) => open.includes(record.offset)).map(({ key }) => key);
      this.#keys.hold(keys, this.#leases.tell(unit.lease));
    } else if (!unit.lease.isSettled) this.#leases.tellSoon();
    this.#return(behind);
    if (unit.isAlone) void this.#restAfter(unit.lease);
    else this.#goOn();
  }

  /** A suspect is done. The next one may take this process down, which would be held against this one if it were not told. */
  async #restAfter(suspect: HeldLease): Promise<void> {
    await this.#crew.rest(this.#leases.tell(suspect));
    this.#goOn();
  }

  /** Begins what is there, and asks for more. */
  #goOn(): void {
    if (this.#isHalted) return;
    this.#crew.begin();
    this.#claimer.wake();
  }

  #lost(lease: HeldLease, error: unknown): void {
    // No more of its partitions may come before what the lease had of them is taken back: not under this name, then.
    if (this.group.partitions !== null) this.#member = randomUUID();
    this.#return(this.#crew.lost(lease, error));
    reportTrouble(this.#options.groups, this.group, 'sluice:group.lost', { error });
    this.#claimer.look();
  }

  /** What was not begun goes back, and others may have it. */
  #return(items: readonly Item[]): void {
    if (items.length === 0) return;
    for (const { lease, record } of items) lease.returned([record.offset]);
    const leases = new Set(items.map((item) => item.lease));
    const told = Promise.all([...leases].map(async (lease) => this.#leases.tell(lease)));
    if (this.group.partitions !== null)
      this.#keys.hold(
        items.map(({ key }) => key),
        told,
      );
  }

  async #drain(): Promise<void> {
    const { groups, settings } = this.#options;
    this.#stopping.abort();
    clearTimeout(this.#unsticking);
    this.#failures.close();
    await this.#claimer.close();
    this.#return(this.#crew.remove());
    const deadline = nap(settings.drainMs, new AbortController().signal);
    await Promise.race([this.#crew.idle(), deadline.done]);
    deadline.wake();
    this.#crew.abandon(this.#stopping.signal.reason);
    await this.#leases.close();
    await this.#membership.leave();
    groups.look(this.group.id);
  }

  /** Events that one call of the handler takes. */
  get #unit(): number {
    const { handler } = this.#options;
    return handler.kind === 'event' ? 1 : handler.maxBatch;
  }

  #makeWindow(): Window {
    const { handler, settings } = this.#options;
    const least = settings.concurrency * this.#unit;
    const most = handler.kind === 'event' ? settings.maxBatch : least + Math.max(MAX_READY, this.#unit);
    return new Window({ least, most });
  }

  #makeLeases(): Leases {
    const { groups, group, settings, policy } = this.#options;
    return new Leases({
      groups,
      group,
      leaseMs: settings.leaseMs,
      policy,
      finished: this.#finished,
      onSettled: (lease) => this.#window.learn(lease.events, performance.now() - lease.beganAt),
      onLost: (lease, error) => this.#lost(lease, error),
      onMore: () => this.#claimer.want(),
      onDead: (count) => reportDead(groups, group, count),
      onAgain: () => this.#claimer.look(), // to learn when that is
    });
  }
}
