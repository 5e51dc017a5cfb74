// Who is present in the streams that this process serves: its own connections, entered under its lease, and the rosters
// they watch. Beats while there is one: renews the lease, and reads the rosters anew when another's is over, and now and then, so that
// a lost announcement is corrected. A connection that ends is present a moment longer: its client may be on its way back.
import type { Database } from '../db/database.ts';
import { nap } from '../util/abort.ts';
import { report } from '../util/diagnostics.ts';
import type { LoggerLike } from '../util/logger.ts';
import { Attendance, type Attendee } from './attendance.ts';
import { Rosters, type PresenceSink } from './rosters.ts';

/** A lease is renewed so often, and all is read again as often as leases end. */
const BEATS = 4;

export interface PresenceOptions {
  readonly database: Database;
  readonly logger: LoggerLike;
  /** Within this long, in milliseconds, whoever was served by a process that died is seen to have left. */
  readonly leaseMs: number;
  /** How long a connection that ended is still present, in milliseconds. */
  readonly graceMs: number;
}

/** A connection that takes part. */
export interface Attending {
  readonly connection: string;
  readonly streams: readonly string[];
  /** Null: sees who is there, and is not seen. */
  readonly member: Pick<Attendee, 'id' | 'state'> | null;
  readonly sink: PresenceSink;
}

export interface Seat {
  /** There is room for frames. */
  resume(): void;
  leave(): void;
}

export class Presence {
  readonly #options: PresenceOptions;
  readonly #attendance: Attendance;
  readonly #rosters: Rosters;
  readonly #closing = new AbortController();
  readonly #leaving = new Set<NodeJS.Timeout>();
  #seats = 0;
  #beating: Promise<void> | undefined;

  constructor(options: PresenceOptions) {
    const { database, logger, leaseMs } = options;
    this.#options = options;
    // A beat before the end of the promised time, so that whoever notices has one beat to do so.
    const held = (leaseMs * (BEATS - 1)) / BEATS;
    this.#attendance = new Attendance({ database, logger, leaseMs: held });
    this.#rosters = new Rosters(database, logger);
  }

  /** Whoever takes part gets the state of its streams when they are read and it has room, then every change. */
  enter({ connection, streams, member, sink }: Attending): Seat {
    this.#seats += 1;
    for (const stream of streams) this.#rosters.watch(stream, sink);
    if (member) this.#attendance.add(connection, { ...member, streams });
    this.#beating ??= this.#beat();
    let left = false;
    return {
      resume: () => {
        for (const stream of streams) this.#rosters.resume(stream, sink);
      },
      leave: () => {
        if (left) return;
        left = true;
        for (const stream of streams) this.#rosters.unwatch(stream, sink);
        this.#afterGrace(() => {
          this.#seats -= 1;
          if (member) this.#attendance.remove(connection);
        });
      },
    };
  }

  /** A message of announce_presence: the ids of members that may have changed. */
  announced(stream: string, data: string): void {
    this.#rosters.announced(stream, JSON.parse(data) as string[]);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    for (const timer of this.#leaving) clearTimeout(timer);
    await this.#beating;
    await this.#rosters.close();
    await this.#attendance.close(this.#options.graceMs);
  }

  #afterGrace(leave: () => void): void {
    if (this.#closing.signal.aborted) return;
    const timer = setTimeout(() => {
      this.#leaving.delete(timer);
      leave();
    }, this.#options.graceMs);
    timer.unref();
    this.#leaving.add(timer);
  }

  async #beat(): Promise<void> {
    const { signal } = this.#closing;
    for (let beat = 1; !signal.aborted && this.#seats > 0; beat += 1) {
      await nap(this.#options.leaseMs / BEATS, signal).done;
      if (signal.aborted) break;
      // Whom a process that is gone has served is not waited for until all of them are taken out.
      const someGone = await this.#attendance.beat();
      if (beat % BEATS === 0 || someGone || this.#rosters.failed) this.#rosters.check();
      report('sluice:presence.renewed', () => ({ connections: this.#seats }));
    }
    this.#beating = undefined;
  }
}
