// What one session listens to: sends LISTEN for what is wanted and UNLISTEN for what is not any more, many channels in
// one statement. A channel that the server refuses is refused alone; what has nothing to do with the channel ends the
// session, and the next one listens to all of them.
import { quoteIdent } from '../db/names.ts';
import { driverErrorOf } from '../db/driver-error.ts';
import type { Hub } from './hub.ts';
import { PULSE_CHANNEL } from './pulse.ts';
import type { Session } from './session.ts';

/** Channels in one statement. */
const BATCH = 500;
/** Classes of SQLSTATEs that say nothing of the statement: rollback, resources, a state or a cancel that passes, the system. */
const PASSING = /^(40|53|55|57|58)/;

export interface ListeningOptions {
  readonly session: Session;
  /** Told what is in force; must have been restarted for this session. */
  readonly hub: Hub;
  /** LISTEN is in force for these. */
  onListening(this: void, channels: readonly string[]): void;
  /** The server refused this one. */
  onRefused(this: void, channel: string, error: unknown): void;
}

export class Listening {
  readonly #options: ListeningOptions;
  #settling: Promise<void> | undefined;
  #sweeping: Promise<void> | undefined;

  constructor(options: ListeningOptions) {
    this.#options = options;
  }

  /** Resolves when nothing that is wanted is missing, or when the session is over. */
  settle(): Promise<void> {
    this.#settling ??= this.#settle();
    return this.#settling;
  }

  /** UNLISTEN for what nobody wants any more: done now and then, for who leaves often comes back. */
  sweep(): Promise<void> {
    this.#sweeping ??= this.#sweep();
    return this.#sweeping;
  }

  // To the last one: a batch each time would be overtaken by those who come and go faster.
  async #sweep(): Promise<void> {
    await Promise.resolve(); // what is kept as under way is over only after it was kept
    const { hub, session } = this.#options;
    for (;;) {
      const channels = session.over ? [] : hub.takeUnwanted(BATCH);
      if (channels.length === 0) break;
      const ours = channels.filter((channel) => channel !== PULSE_CHANNEL); // the session itself listens to that one
      if (ours.length > 0) await session.query(statements('unlisten', ours)).catch(() => {}); // it is over
    }
    this.#sweeping = undefined;
  }

  async #settle(): Promise<void> {
    await Promise.resolve(); // those who come in the same tick go into the same statement
    const { hub, session } = this.#options;
    for (;;) {
      const channels = session.over ? [] : hub.missing(BATCH);
      if (channels.length === 0) break;
      await this.#listenTo(channels);
    }
    this.#settling = undefined;
  }

  async #listenTo(channels: readonly string[]): Promise<void> {
    const { hub, session, onListening, onRefused } = this.#options;
    try {
      await session.query(statements('listen', channels));
    } catch (error) {
      if (session.over) return;
      const [channel] = channels;
      if (PASSING.test(driverErrorOf(error).code ?? '')) return session.end(error);
      if (channels.length === 1 && channel !== undefined) return onRefused(channel, error);
      for (const each of channels) await this.#listenTo([each]);
      return;
    }
    if (session.over) return;
    hub.listening(channels);
    onListening(channels);
  }
}

const statements = (verb: 'listen' | 'unlisten', channels: readonly string[]): string =>
  channels.map((channel) => `${verb} ${quoteIdent(channel)}`).join('; ');
