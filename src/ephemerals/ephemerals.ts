// The receiving side of ephemerals: who in this process is connected to which stream, and what is broadcast to them, in
// order. Woken by a notification, by this process's own broadcasts and by the poll; reads once for everybody, encodes
// once, and hands the same bytes to all. Keeps nothing: who is not connected then does not get it.
import type { Database } from '../db/database.ts';
import type { Listener } from '../listen/listener.ts';
import { CONTROL_EVENTS } from '../protocol/wire.ts';
import { deferred, type Deferred } from '../util/deferred.ts';
import { report } from '../util/diagnostics.ts';
import type { LoggerLike } from '../util/logger.ts';
import { Round } from '../util/round.ts';
import { Broadcasts } from './broadcasts.ts';
import { readUnseen, startReading, type Ephemeral, type Progress } from './unseen.ts';

/** Data after which a write ends, in characters. */
const MAX_RUN_LENGTH = 16 * 1024;

export interface EphemeralSink {
  /** Takes what of them is for it, or not: nobody waits for it. */
  broadcast(messages: Broadcasts): void;
}

export interface EphemeralsOptions {
  readonly database: Database;
  readonly listener: Listener;
  readonly logger: LoggerLike;
  /** Members of a stream may have changed: `data` says which. */
  onPresence(this: void, stream: string, data: string): void;
  /** How those who are connected are written to. */
  readonly round?: Round;
}

export class Ephemerals {
  readonly #options: EphemeralsOptions;
  readonly #round: Round;
  readonly #sinks = new Map<string, Set<EphemeralSink>>();
  #progress: Progress | undefined;
  /** There will be progress, or a failure: in a flood the reading itself may never end. */
  #beginning: Deferred<void> | undefined;
  #wanted = false;
  #reading: Promise<void> | undefined;
  #unhear: (() => void) | undefined;
  #closed = false;

  constructor(options: EphemeralsOptions) {
    this.#options = options;
    this.#round = options.round ?? new Round();
  }

  /**
   * Connects a sink to streams until the returned function is called. From when on, `ready` tells.
   */
  join(streams: readonly string[], sink: EphemeralSink): () => void {
    this.#round.came();
    for (const stream of streams) {
      const sinks = this.#sinks.get(stream);
      if (sinks) sinks.add(sink);
      else this.#sinks.set(stream, new Set([sink]));
    }
    return () => {
      for (const stream of streams) {
        const sinks = this.#sinks.get(stream);
        if (sinks?.delete(sink) && sinks.size === 0) this.#sinks.delete(stream);
      }
      if (this.#sinks.size === 0) this.#progress = undefined;
    };
  }

  /**
   * Resolves when whatever is broadcast from now on is heard. Never rejects: without the table or a session the events
   * of a stream still go out, and the poll tries again.
   */
  async ready(): Promise<void> {
    if (this.#closed) return;
    const { listener, database } = this.#options;
    const channel = database.names.ephemeralsChannel;
    const wake = (): void => this.wake();
    this.#unhear ??= listener.hear(channel, { message: wake, gap: wake });
    await listener.inForceIfConnected(channel); // before the first snapshot: what comes after it is then heard
    if (this.#progress !== undefined || this.#sinks.size === 0 || this.#closed) return;
    this.#beginning ??= deferred();
    this.wake();
    await this.#beginning.promise;
  }

  /** Something may have been broadcast. */
  wake(): void {
    if (this.#sinks.size === 0 || this.#closed) return;
    this.#wanted = true;
    this.#reading ??= this.#readAll();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#unhear?.();
    await this.#reading;
  }

  async #readAll(): Promise<void> {
    try {
      while (this.#wanted && this.#sinks.size > 0 && !this.#closed) {
        this.#wanted = false;
        await this.#read();
      }
    } catch (error) {
      this.#options.logger.warn({ error }, 'ephemerals could not be read; it is tried again');
      report('sluice:background.failed', () => ({ where: 'ephemerals', error }));
    } finally {
      this.#reading = undefined;
      this.#begun(); // or it failed, and has been reported
    }
  }

  #begun(): void {
    this.#beginning?.resolve();
    this.#beginning = undefined;
  }

  async #read(): Promise<void> {
    const { database } = this.#options;
    if (this.#progress === undefined) {
      const start = await startReading(database);
      if (this.#sinks.size === 0) return; // the next one starts from its own time
      this.#progress ??= start;
      return this.#begun();
    }
    let progress: Progress = this.#progress;
    do {
      const read = await readUnseen(database, progress, [...this.#sinks.keys()]);
      ({ progress } = read);
      if (this.#progress === undefined) return; // everybody has left meanwhile
      this.#progress = progress;
      await this.#deliver(read.messages);
    } while (progress.page && !this.#closed);
  }

  // What follows each other in one stream leaves in one write, unless it is long: what is full drops whole writes.
  async #deliver(read: readonly Ephemeral[]): Promise<void> {
    const messages = read.filter(({ type }) => type !== CONTROL_EVENTS.presence);
    for (const { stream, type, data } of read) {
      if (type === CONTROL_EVENTS.presence) this.#options.onPresence(stream, data);
    }
    for (let from = 0; from < messages.length;) {
      const stream = messages[from]?.stream ?? '';
      let to = from;
      for (let length = 0; messages[to]?.stream === stream && length < MAX_RUN_LENGTH; to += 1)
        length += messages[to]?.data.length ?? 0;
      this.#send(stream, messages.slice(from, to));
      while (this.#round.underWay()) await this.#round.underWay(); // none overtakes another
      from = to;
    }
    if (messages.length > 0) report('sluice:ephemerals.delivered', () => ({ messages: messages.length }));
  }

  #send(stream: string, messages: readonly Ephemeral[]): void {
    const sinks = this.#sinks.get(stream);
    if (!sinks) return;
    const broadcasts = new Broadcasts(messages);
    this.#round.begin(sinks, (sink) => sink.broadcast(broadcasts));
  }
}
