// What this process says of its own connections: who they are, in which streams, under one lease for all. Written in
// batches, one statement at a time. Whatever goes wrong, it starts again under another id and enters all of them anew;
// what stood under the old one is removed when its lease is over.
import { randomUUID } from 'node:crypto';
import { textArrayLiteral } from '../db/array-literal.ts';
import type { Database } from '../db/database.ts';
import { nap } from '../util/abort.ts';
import { report } from '../util/diagnostics.ts';
import type { LoggerLike } from '../util/logger.ts';

/** Before each statement, so that many changes are written together: bounds how often is written. */
const PAUSE_MS = 50;
/** Connections in one statement. */
const MAX_BATCH = 500;
/** So many times in one beat what others have left behind is taken out, of which each statement takes a part. */
const MAX_SWEEPS = 20;

export interface Attendee {
  readonly streams: readonly string[];
  readonly id: string;
  /** JSON. */
  readonly state: string;
}

export interface AttendanceOptions {
  readonly database: Database;
  readonly logger: LoggerLike;
  /** How long the process's word holds without being renewed, in milliseconds. */
  readonly leaseMs: number;
}

export class Attendance {
  readonly #options: AttendanceOptions;
  readonly #closing = new AbortController();
  readonly #present = new Map<string, Attendee>();
  #holder: string = randomUUID();
  /** It has been given a lease. */
  #entered = false;
  /** Something could not be written. */
  #failed = false;
  #entering = new Set<string>();
  #leaving = new Set<string>();
  #writing: Promise<void> | undefined;

  constructor(options: AttendanceOptions) {
    this.#options = options;
  }

  add(connection: string, attendee: Attendee): void {
    this.#present.set(connection, attendee);
    this.#entering.add(connection);
    this.#writing ??= this.#writeAll();
  }

  remove(connection: string): void {
    this.#present.delete(connection);
    if (!this.#entering.delete(connection)) this.#leaving.add(connection);
    this.#writing ??= this.#writeAll();
  }

  /** Renews the lease, and takes out what others have left behind. Whether a lease was found to be over. */
  async beat(): Promise<boolean> {
    if (this.#failed) this.#startOver();
    let someGone = false;
    try {
      for (let sweep = 0, more = true; more && sweep < MAX_SWEEPS; sweep += 1) {
        const { renewed, expired } = await this.#renew(this.#options.leaseMs);
        if (!renewed && this.#entered) this.#startOver();
        someGone ||= expired;
        more = expired && !this.#closing.signal.aborted;
      }
    } catch (error) {
      this.#report(error);
    }
    return someGone;
  }

  /** What is still present stays so for that long, so that clients can come back elsewhere meanwhile. */
  async close(graceMs: number): Promise<void> {
    this.#closing.abort();
    await this.#writing;
    if (this.#entered) await this.#renew(graceMs).catch((error: unknown) => this.#report(error));
  }

  #startOver(): void {
    this.#holder = randomUUID();
    this.#entered = false;
    this.#failed = false;
    this.#entering = new Set(this.#present.keys());
    this.#leaving = new Set();
    if (this.#entering.size > 0) this.#writing ??= this.#writeAll();
  }

  async #writeAll(): Promise<void> {
    const { signal } = this.#closing;
    await Promise.resolve(); // the field that says it runs is set first
    while (this.#entering.size + this.#leaving.size > 0 && !this.#failed && !signal.aborted) {
      await nap(PAUSE_MS, signal).done;
      if (signal.aborted) break;
      try {
        await this.#enter(take(this.#entering, MAX_BATCH));
        await this.#leave(take(this.#leaving, MAX_BATCH));
      } catch (error) {
        this.#failed = true; // the next beat starts over
        this.#report(error);
      }
    }
    this.#writing = undefined;
  }

  async #enter(connections: readonly string[]): Promise<void> {
    const rows = connections.flatMap((connection) => {
      const attendee = this.#present.get(connection);
      return attendee ? attendee.streams.map((stream) => ({ ...attendee, connection, stream })) : [];
    });
    if (rows.length === 0) return;
    const { database, leaseMs } = this.#options;
    const { quoted } = database.names;
    const holder = this.#holder;
    const [row] = await database.query<{ entered: boolean }>(
      // A lease that it had and that is gone was over, and those it held were taken out: it is not to be given anew.
      `select case when $7::boolean and not exists (select from ${quoted}.presence_holders where id = $1::uuid) then false
         else ${quoted}.enter_presence($1::uuid, $2::double precision, $3::text::uuid[],
           $4::text::text[], $5::text::text[], $6::text::text[]) end as entered`,
      [
        holder,
        leaseMs,
        textArrayLiteral(rows.map(({ connection }) => connection)),
        textArrayLiteral(rows.map(({ stream }) => stream)),
        textArrayLiteral(rows.map(({ id }) => id)),
        textArrayLiteral(rows.map(({ state }) => state)),
        this.#entered,
      ],
      'sluice_enter_presence',
    );
    if (holder !== this.#holder) return; // started over meanwhile, with these among the others
    if (row?.entered === true) this.#entered = true;
    else this.#startOver();
  }

  async #leave(connections: readonly string[]): Promise<void> {
    if (connections.length === 0) return;
    const { database } = this.#options;
    await database.query(
      `select ${database.names.quoted}.leave_presence($1::uuid, $2::text::uuid[])`,
      [this.#holder, textArrayLiteral(connections)],
      'sluice_leave_presence',
    );
  }

  /** `expired`: leases were over when it began. */
  async #renew(leaseMs: number): Promise<{ readonly renewed: boolean; readonly expired: boolean }> {
    const { database } = this.#options;
    const { quoted } = database.names;
    const [row] = await database.query<{ renewed: boolean; expired: boolean }>(
      `select ${quoted}.renew_presence($1::uuid, $2::double precision) as renewed,
         exists (select from ${quoted}.presence_holders where expires_at <= clock_timestamp()) as expired`,
      [this.#holder, leaseMs],
      'sluice_renew_presence',
    );
    return { renewed: row?.renewed === true, expired: row?.expired === true };
  }

  #report(error: unknown): void {
    this.#options.logger.warn({ error }, 'who is present could not be written; it is tried again');
    report('sluice:background.failed', () => ({ where: 'presence', error }));
  }
}

/** Takes the first out of a set, `count` at most. */
function take(set: Set<string>, count: number): string[] {
  const taken: string[] = [];
  for (const each of set) {
    if (taken.length === count) break;
    set.delete(each);
    taken.push(each);
  }
  return taken;
}
