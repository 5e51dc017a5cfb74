// One process's Sluice: builds the parts, wires them to each other, and closes them in order. The public object is a
// thin face over it; sluice/http reaches the tails behind that face through `coreOf`.
import { Database } from '../db/database.ts';
import { migrateDatabase, SCHEMA_VERSION } from '../db/migrate.ts';
import { createPing } from '../db/ping.ts';
import { checkSchema, checkServer } from '../db/schema-version.ts';
import { translated } from '../db/sqlstate.ts';
import { Broadcaster } from '../ephemerals/broadcaster.ts';
import { Ephemerals } from '../ephemerals/ephemerals.ts';
import { Groups } from '../groups/groups.ts';
import { Bus } from '../listen/bus.ts';
import { Listener } from '../listen/listener.ts';
import { notifyIfRoom } from '../listen/notify.ts';
import { appendBatch, appendedRecords } from '../log/append.ts';
import { Budget } from '../log/budget.ts';
import { Coalescer } from '../log/coalescer.ts';
import { DEFAULT_LIMITS, type Limits } from '../log/encode.ts';
import { ReaderBell } from '../log/reader-bell.ts';
import { FallbackPoll } from '../relay/fallback-poll.ts';
import { Presence } from '../presence/presence.ts';
import { Housekeeping } from '../relay/housekeeping.ts';
import { mayRelay } from '../relay/may-relay.ts';
import { Passes } from '../relay/pass.ts';
import { Relay } from '../relay/relay.ts';
import { Retention } from '../relay/retention.ts';
import { report } from '../util/diagnostics.ts';
import { Replica } from '../tail/replica.ts';
import { Tails } from '../tail/tails.ts';
import type { Settings } from './options.ts';

/** A tail without subscribers goes away after this long. */
const TAIL_IDLE_MS = 10_000;
/** A page that one reader caught up with serves others for so long. */
const KEEP_PAGE_MS = 1000;
/** A standby that has not answered by then is left for the primary: a page takes it milliseconds. */
const STANDBY_DEADLINE_MS = 5000;
/** As a head, it makes everybody look, whatever they have heard before. */
const BEYOND_ANY_HEAD = 2n ** 62n;

export class Core {
  readonly settings: Settings;
  readonly limits: Limits;
  readonly database: Database;
  readonly ping: () => Promise<boolean>;
  readonly listener: Listener;
  readonly bus: Bus;
  readonly tails: Tails;
  readonly coalescer: Coalescer;
  readonly ephemerals: Ephemerals;
  readonly broadcaster: Broadcaster;
  readonly presence: Presence;
  readonly groups: Groups;
  /** Bounds what waits for the answers of streams' schemas. */
  readonly undecided: Budget;
  readonly #standby: Database | undefined;
  readonly #bell: ReaderBell;
  #relay: Relay | undefined;
  readonly #poll: FallbackPoll;
  #closing: Promise<void> | undefined;

  constructor(settings: Settings) {
    const { connectionString, listenConnectionString, pool, schema, logger } = settings;
    this.settings = settings;
    this.limits = { ...DEFAULT_LIMITS, maxEventBytes: settings.maxEventBytes };
    // Two addresses mean that a transaction pooler stands in between; over one, a session of the listener, that none does.
    const prepare = (): boolean => listenConnectionString === connectionString && this.listener.connected;
    this.database = new Database({ connectionString, pool, schema, prepare, logger });
    this.ping = createPing(this.database);
    this.listener = this.#makeListener();
    const { database, listener } = this;
    const closeConnections = (): Promise<void> => Promise.resolve(); // they are everybody's here
    this.bus = new Bus({ listener, database, logger, closeConnections });
    this.#standby = this.#openStandby(prepare);
    this.tails = new Tails({
      database,
      replica: this.#standby && new Replica({ primary: database, standby: this.#standby, logger }),
      listener,
      logger,
      window: { maxEvents: settings.windowEvents, maxBytes: settings.windowBytes },
      maxReads: settings.maxReads,
      shelf: { maxBytes: settings.sharedPageBytes, keepMs: KEEP_PAGE_MS },
      idleMs: TAIL_IDLE_MS,
    });
    this.#bell = new ReaderBell(this.database, logger);
    const { presenceLeaseMs: leaseMs, presenceGraceMs: graceMs } = settings;
    this.presence = new Presence({ database, logger, leaseMs, graceMs });
    const onPresence = (stream: string, data: string): void => this.presence.announced(stream, data);
    this.ephemerals = new Ephemerals({ database, listener, logger, onPresence });
    this.broadcaster = new Broadcaster(database, () => this.ephemerals.wake());
    const { fallbackPollMs } = settings;
    this.groups = new Groups({ database, listener, logger, fallbackPollMs });
    this.coalescer = this.#makeCoalescer();
    const { maxQueuedEvents: maxEvents, maxQueuedBytes: maxBytes } = settings;
    this.undecided = new Budget({ maxEvents, maxBytes });
    const passes = new Passes({
      database,
      commit: async (statement, rung) => this.#bell.commit(statement, rung),
      onMoved: (incarnation, head, rung) => this.#moved(incarnation, head, rung),
      onRefused: (count) => this.#refused(count),
    });
    const housekeeping = new Housekeeping(this.database, logger);
    const shared = { passes, housekeeping, fallbackPollMs, logger };
    const { names } = database;
    const retention = new Retention({ database, intervalMs: settings.retentionIntervalMs, logger });
    this.#relay = settings.relay ? new Relay({ names, listener, retention, ...shared }) : undefined;
    this.#poll = new FallbackPoll({ database, checkReaders: async () => this.#checkReaders(), ...shared });
  }

  /** @throws SluiceError connection_lost, permission_denied, unsupported_server, schema_mismatch */
  async open(): Promise<void> {
    const { migrate, connectionString, pool, schema } = this.settings;
    if (migrate === 'apply') await migrateDatabase({ connectionString, pool, schema });
    await translated(async () => {
      await checkServer(this.database.pool);
      await checkSchema(this.database.pool, this.database.names, SCHEMA_VERSION);
    });
    const may = await mayRelay(this.database);
    await this.listener.open();
    if (!may) this.#leaveMovingToOthers();
    this.#relay?.start();
    this.#poll.start(may);
  }

  #checkReaders(): Promise<number> {
    this.ephemerals.wake(); // not awaited: in a flood of them there is always one more
    return this.tails.check();
  }

  #leaveMovingToOthers(): void {
    const message = "this user may not move published events; another process must (grant_right 'relay')";
    this.settings.logger[this.#relay ? 'warn' : 'debug']({ schema: this.settings.schema }, message);
    this.#relay = undefined;
  }

  /** A stream has gone on: tells this process's readers, and everybody else's unless they were told (`rung`). */
  #moved(incarnation: bigint, head: bigint, rung: boolean): void {
    this.tails.wake(incarnation, head);
    this.groups.moved(incarnation, head);
    if (!rung) this.#bell.ring(incarnation, head);
  }

  #refused(count: number): void {
    this.settings.logger.error(
      { count },
      'published events are undeliverable: their stream was closed or deleted; see undeliverable()',
    );
    report('sluice:relay.refused', () => ({ count }));
  }

  /** A stream was deleted: its readers find out by reading. */
  deleted(incarnation: bigint): void {
    this.#moved(incarnation, BEYOND_ANY_HEAD, false);
  }

  /** Stops taking work, finishes what was accepted, then lets go of the database. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await this.groups.close();
    await this.tails.close();
    await this.coalescer.close();
    await this.broadcaster.close();
    await this.ephemerals.close();
    await this.presence.close();
    await this.#relay?.close();
    await this.#poll.close();
    await this.#bell.close();
    await this.bus.close();
    await this.listener.close();
    await this.database.close();
    await this.#standby?.close();
  }

  #openStandby(prepare: () => boolean): Database | undefined {
    const { readConnectionString: connectionString, schema, logger } = this.settings;
    if (connectionString === undefined) return undefined;
    const deadlineMs = STANDBY_DEADLINE_MS;
    return new Database({ connectionString, pool: undefined, schema, prepare, deadlineMs, logger });
  }

  #makeListener(): Listener {
    const { listenConnectionString, heartbeatMs, listenDeadlineMs, idleSessionTimeoutMs, logger } =
      this.settings;
    return new Listener({
      connectionString: listenConnectionString,
      heartbeatMs,
      deadlineMs: listenDeadlineMs,
      idleSessionTimeoutMs,
      logger,
      send: async (channel, payload) => notifyIfRoom(this.database, channel, payload),
    });
  }

  #makeCoalescer(): Coalescer {
    const { autoCreate, appendTimeoutMs, maxQueuedEvents, maxQueuedBytes } = this.settings;
    return new Coalescer({
      autoCreate,
      lockWaitMs: appendTimeoutMs,
      maxQueuedEvents,
      maxQueuedBytes,
      send: async (groups, call) =>
        groups.length === 1
          ? this.#bell.commit(
              async (mayRing) => appendBatch(this.database, groups, call, mayRing),
              ([outcome]) =>
                outcome?.kind === 'ok' && outcome.rung
                  ? { streams: 1, events: outcome.tags.length }
                  : undefined,
            )
          : appendBatch(this.database, groups, call, false),
      committed: (group, outcome) => {
        const { incarnation, first, previousTag } = outcome;
        const before = { incarnation, offset: first - 1n, tag: previousTag };
        this.tails.feed(group.stream, before, () => appendedRecords(group, outcome));
        const events = group.events.length;
        const head = first + BigInt(events) - 1n;
        this.groups.moved(incarnation, head);
        if (!outcome.rung) this.#bell.ring(incarnation, head, events);
      },
    });
  }
}
