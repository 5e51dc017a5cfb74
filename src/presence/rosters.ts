// The rosters of all streams that somebody in this process watches: read on first use, then what was announced, and all
// of them again when asked to check. One reading at a time; what is announced meanwhile is read next. A watcher that has
// no room for a change gets the whole state when it has.
import { nap } from '../util/abort.ts';
import type { Database } from '../db/database.ts';
import { report } from '../util/diagnostics.ts';
import type { LoggerLike } from '../util/logger.ts';
import { loadMembers, loadSome } from './members.ts';
import { Roster, type Change } from './roster.ts';

/** Between two readings, so that many changes are read together. */
const PAUSE_MS = 20;
/** Of more members announced at a time, all are read. */
const MAX_NAMED = 1000;

export interface PresenceSink {
  /** Takes frames; false: there is no room, until it resumes. */
  presence(frames: Buffer): boolean;
}

interface Watched {
  readonly roster: Roster;
  /** With the sinks that have to get the state first. */
  readonly sinks: Map<PresenceSink, { behind: boolean }>;
}

export class Rosters {
  readonly #database: Database;
  readonly #logger: LoggerLike;
  readonly #watched = new Map<string, Watched>();
  readonly #closing = new AbortController();
  /** What is to be read: the members of a stream, or all of them. */
  #stale = new Map<string, Set<string> | 'all'>();
  #reading: Promise<void> | undefined;
  #failed = false;

  constructor(database: Database, logger: LoggerLike) {
    this.#database = database;
    this.#logger = logger;
  }

  /** The sink gets the state of each stream once it is known and there is room, then what changes. */
  watch(stream: string, sink: PresenceSink): void {
    let watched = this.#watched.get(stream);
    if (!watched) {
      watched = { roster: new Roster(stream), sinks: new Map() };
      this.#watched.set(stream, watched);
      this.#look(stream, 'all');
    }
    watched.sinks.set(sink, { behind: true });
  }

  unwatch(stream: string, sink: PresenceSink): void {
    const watched = this.#watched.get(stream);
    if (watched?.sinks.delete(sink) && watched.sinks.size === 0) this.#watched.delete(stream);
  }

  /** The sink has room: it gets what it missed of a stream. */
  resume(stream: string, sink: PresenceSink): void {
    const watched = this.#watched.get(stream);
    const standing = watched?.sinks.get(sink);
    if (watched?.roster.loaded && standing?.behind) standing.behind = !sink.presence(watched.roster.state);
  }

  /** These members may have changed. */
  announced(stream: string, members: readonly string[]): void {
    if (this.#watched.has(stream)) this.#look(stream, new Set(members));
  }

  /** A reading failed since the last check. */
  get failed(): boolean {
    return this.#failed;
  }

  /** Reads all of them again. */
  check(): void {
    this.#failed = false;
    for (const stream of this.#watched.keys()) this.#look(stream, 'all');
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#reading;
  }

  #look(stream: string, members: Set<string> | 'all'): void {
    const known = this.#stale.get(stream);
    if (known === 'all' || members === 'all') this.#stale.set(stream, 'all');
    else {
      const all = known ? new Set([...known, ...members]) : members;
      this.#stale.set(stream, all.size > MAX_NAMED ? 'all' : all);
    }
    this.#reading ??= this.#readAll();
  }

  async #readAll(): Promise<void> {
    const { signal } = this.#closing;
    await Promise.resolve(); // what is asked for in one go is read together
    while (this.#stale.size > 0 && !signal.aborted) {
      const stale = this.#stale;
      this.#stale = new Map();
      for (const [stream, members] of stale) {
        if (signal.aborted) return;
        await this.#read(stream, members);
      }
      await nap(PAUSE_MS, signal).done;
    }
    this.#reading = undefined;
  }

  async #read(stream: string, members: Set<string> | 'all'): Promise<void> {
    const watched = this.#watched.get(stream);
    if (!watched) return;
    const from = { database: this.#database, stream };
    try {
      const changes =
        members === 'all'
          ? watched.roster.replace(await loadMembers(from))
          : watched.roster.update(members, await loadSome(from, members));
      this.#tell(watched, changes);
    } catch (error) {
      this.#failed = true;
      this.#logger.warn({ error, stream }, 'who is present could not be read; it is tried again');
      report('sluice:background.failed', () => ({ where: 'presence', error }));
    }
  }

  #tell({ roster, sinks }: Watched, changes: readonly Change[]): void {
    if (!roster.loaded) return;
    const frames = changes.length > 0 ? roster.frames(changes) : undefined;
    for (const [sink, standing] of sinks) {
      if (standing.behind) standing.behind = !sink.presence(roster.state);
      else if (frames) standing.behind = !sink.presence(frames);
    }
    if (frames) report('sluice:presence.changed', () => ({ stream: roster.stream, changes: changes.length }));
  }
}
