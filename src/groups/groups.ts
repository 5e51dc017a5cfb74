// All that this process consumes in groups: tells its members that a stream went on, that another member has taken what
// was there, or that something is to be had again; and ends them. What it hears only makes them look sooner.
import type { Database } from '../db/database.ts';
import type { Listener } from '../listen/listener.ts';
import { decodeHeads, ReaderBell } from '../log/reader-bell.ts';
import type { LoggerLike } from '../util/logger.ts';
import { SluiceError } from '../util/errors.ts';
import type { GroupRef } from './store.ts';

export interface GroupsOptions {
  readonly database: Database;
  readonly listener: Listener;
  readonly logger: LoggerLike;
  /** How long it may take until work is found of which nothing was heard, in milliseconds. */
  readonly fallbackPollMs: number;
}

/** What a member is told, so that it looks sooner, or need not look. */
export interface Hints {
  /** The stream has gone on to `head`. */
  moved(head: bigint): void;
  /** Another member has taken what there was up to `cursor`. */
  taken(cursor: bigint): void;
  /** Another member has taken what was due; it goes first for what is due in so many milliseconds (Infinity: nothing). */
  due(ms: number): void;
  /** Something is to be had, wherever. */
  look(): void;
}

/** Somebody who consumes in a group. */
export interface Member {
  readonly group: GroupRef;
  readonly hints: Hints;
  /** The members are others now. */
  recount(): void;
  /** Ends; resolves when nothing of it is left. */
  stop(): Promise<void>;
}

/** In a payload, instead of a cursor, and beyond them all: something is to be had. */
const LOOK = 2n ** 62n;
/** Likewise: a member has come. Of what goes out together the highest is heard, and this says less than a look. */
const RECOUNT = LOOK - 1n;
/** Likewise, with milliseconds added: when something is due next. */
const DUE = 2n ** 61n;
const NEVER_MS = 2 ** 50;

export class Groups {
  readonly database: Database;
  readonly logger: LoggerLike;
  readonly fallbackPollMs: number;
  readonly #listener: Listener;
  readonly #bell: ReaderBell;
  readonly #members = new Set<Member>();
  #unhear: (() => void)[] | undefined;
  #closed = false;

  constructor({ database, listener, logger, fallbackPollMs }: GroupsOptions) {
    this.database = database;
    this.logger = logger;
    this.fallbackPollMs = fallbackPollMs;
    this.#listener = listener;
    this.#bell = new ReaderBell(database, logger, database.names.groupsChannel);
  }

  /** The groups that have members here. */
  get consumed(): bigint[] {
    return [...new Set(Array.from(this.#members, ({ group }) => group.id))];
  }

  /** @throws SluiceError closed */
  async join(member: Member): Promise<() => void> {
    this.requireOpen();
    this.#members.add(member);
    await this.#listen(); // before it looks for the first time: what comes after that is then heard
    return () => this.#members.delete(member);
  }

  /** A stream has gone on. */
  moved(incarnation: bigint, head: bigint): void {
    for (const member of this.#members) {
      if (member.group.stream.incarnation === incarnation) member.hints.moved(head);
    }
  }

  /** A member has taken what there was; the others need not look. */
  taken(by: Member, cursor: bigint): void {
    this.#tell(by.group.id, cursor, by);
    this.#bell.ring(by.group.id, cursor);
  }

  /** A member has learned when something is due, and goes for it; Infinity: nothing is. */
  due(by: Member, ms: number): void {
    const told = DUE + BigInt(Math.ceil(Math.min(ms, NEVER_MS)));
    this.#tell(by.group.id, told, by);
    this.#bell.ring(by.group.id, told);
  }

  /** A member has come; the others learn whose turn it is. */
  arrived(member: Member): void {
    this.#tell(member.group.id, RECOUNT, member);
    this.#bell.ring(member.group.id, RECOUNT);
  }

  /** Something is to be had again in a group. */
  look(group: bigint): void {
    this.#tell(group, LOOK);
    this.#bell.ring(group, LOOK);
  }

  /** Ends all members, as their own signals would. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#members].map(async (member) => member.stop()));
    for (const unhear of this.#unhear ?? []) unhear();
    await this.#bell.close();
  }

  /** @throws SluiceError closed */
  requireOpen(): void {
    if (this.#closed) throw new SluiceError('closed', 'this Sluice is closed');
  }

  async #listen(): Promise<void> {
    const { readersChannel, groupsChannel } = this.database.names;
    const gap = (): void => {
      for (const member of this.#members) member.hints.look();
    };
    this.#unhear ??= [
      this.#listener.hear(readersChannel, { message: ({ payload }) => this.#hearMoved(payload), gap }),
      this.#listener.hear(groupsChannel, { message: ({ payload }) => this.#hearGroups(payload), gap }),
    ];
    await Promise.all(
      [readersChannel, groupsChannel].map(async (channel) => this.#listener.inForceIfConnected(channel)),
    );
  }

  #hearMoved(payload: string): void {
    const heads = decodeHeads(payload);
    for (const { incarnation, head } of heads ?? []) this.moved(incarnation, head);
    if (!heads) for (const member of this.#members) member.hints.look();
  }

  #hearGroups(payload: string): void {
    const cursors = decodeHeads(payload);
    for (const { incarnation: group, head } of cursors ?? []) this.#tell(group, head);
    if (!cursors) for (const member of this.#members) member.hints.look();
  }

  #tell(group: bigint, cursor: bigint, but?: Member): void {
    for (const member of this.#members) {
      if (member.group.id !== group || member === but) continue;
      if (cursor === LOOK) member.hints.look();
      else if (cursor === RECOUNT) member.recount();
      else if (cursor >= DUE) member.hints.due(toDueMs(cursor));
      else member.hints.taken(cursor);
    }
  }
}

function toDueMs(told: bigint): number {
  const ms = Number(told - DUE);
  return ms < NEVER_MS ? ms : Infinity;
}
