// The one LISTEN connection of a process: any number of channels over it, reconnecting for ever. Whoever listens is
// told of every new session (`gap`), because anything sent before it may have been missed. Owns no stream knowledge.
import { backoffMs } from '../util/backoff.ts';
import { report } from '../util/diagnostics.ts';
import { SluiceError } from '../util/errors.ts';
import { nap } from '../util/abort.ts';
import type { LoggerLike } from '../util/logger.ts';
import { quoteIdent } from '../db/names.ts';
import { translated } from '../db/sqlstate.ts';
import { Hub, type ChannelHandler } from './hub.ts';
import { Session } from './session.ts';
import { random } from '../util/random.ts';

const RECONNECT = { initialMs: 500, maxMs: 30_000 };

export interface ListenerOptions {
  readonly connectionString: string | undefined;
  readonly logger: LoggerLike;
  readonly heartbeatMs?: number | undefined;
  readonly deadlineMs?: number | undefined;
  readonly idleSessionTimeoutMs?: number | undefined;
}

export class Listener {
  readonly #options: ListenerOptions;
  readonly #hub = new Hub();
  readonly #closing = new AbortController();
  #session: Session | undefined;
  #reconnecting: Promise<void> | undefined;
  #generation = 0;

  constructor(options: ListenerOptions) {
    this.#options = options;
  }

  /** 0 before the first session, 1 in it, one more with each new session. */
  get generation(): number {
    return this.#generation;
  }

  get connected(): boolean {
    return this.#session !== undefined;
  }

  /** Opens the first session. @throws SluiceError connection_lost, permission_denied */
  async open(): Promise<void> {
    await translated(async () => this.#openSession());
  }

  /** Hears a channel until the returned function is called. Resolves once LISTEN is in force, or will be restored. */
  async listen(channel: string, handler: ChannelHandler): Promise<() => void> {
    if (this.#hub.add(channel, handler) && this.#session) {
      // A session that fails here is replaced, and its successor listens to all that the hub knows.
      await this.#session.query(`listen ${quoteIdent(channel)}`).catch(() => {});
    }
    return () => {
      if (this.#hub.remove(channel, handler)) {
        void this.#session?.query(`unlisten ${quoteIdent(channel)}`).catch(() => {});
      }
    };
  }

  /** Runs one short statement on the listening session, for session locks. Fails when there is no session. */
  async query<Row>(text: string, values: unknown[]): Promise<Row[]> {
    const session = this.#session;
    if (!session) throw new SluiceError('connection_lost', 'the listener is not connected');
    return translated(async () => session.query<Row>(text, values));
  }

  async close(): Promise<void> {
    this.#closing.abort();
    const session = this.#session;
    this.#session = undefined;
    await session?.close();
    await this.#reconnecting;
  }

  async #openSession(): Promise<void> {
    const {
      connectionString,
      heartbeatMs = 1000,
      deadlineMs = 2000,
      idleSessionTimeoutMs = 10_000,
    } = this.#options;
    let ended = false;
    const listening = this.#hub.channels;
    const session = await Session.open(
      {
        connectionString,
        heartbeatMs,
        deadlineMs,
        idleSessionTimeoutMs,
        onNotification: (channel, payload, processId) => this.#hub.message(channel, payload, processId),
        onEnd: (error) => {
          ended = true;
          this.#lost(error);
        },
      },
      listening,
    );
    if (this.#closing.signal.aborted) return session.close();
    await this.#catchUp(session, listening);
    if (ended) throw new SluiceError('connection_lost', 'the listener connection was lost');
    this.#session = session;
    this.#generation += 1;
    report('sluice:listener.connected', () => ({ generation: this.#generation }));
    this.#hub.gap(this.#generation);
  }

  // Channels that were added while the session opened.
  async #catchUp(session: Session, listening: readonly string[]): Promise<void> {
    const known = new Set(listening);
    for (;;) {
      const missing = this.#hub.channels.filter((channel) => !known.has(channel));
      if (missing.length === 0) return;
      await session.query(missing.map((channel) => `listen ${quoteIdent(channel)}`).join('; '));
      for (const channel of missing) known.add(channel);
    }
  }

  #lost(error: unknown): void {
    if (!this.#session || this.#closing.signal.aborted) return;
    this.#session = undefined;
    this.#options.logger.warn(
      { error, generation: this.#generation },
      'the listener connection was lost; reconnecting',
    );
    report('sluice:listener.lost', () => ({ generation: this.#generation, error }));
    this.#reconnecting = this.#reconnect();
  }

  async #reconnect(): Promise<void> {
    const { signal } = this.#closing;
    for (let attempt = 0; !signal.aborted; attempt += 1) {
      try {
        await this.#openSession();
        return;
      } catch (error) {
        this.#options.logger.warn({ error, attempt }, 'the listener could not reconnect');
        report('sluice:background.failed', () => ({ where: 'listener', error }));
        await nap(backoffMs(attempt, RECONNECT, random()), signal).done;
      }
    }
  }
}
