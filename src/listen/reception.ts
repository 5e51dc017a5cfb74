// One session of the listener with all that belongs to it: what it listens to, and whether notifications arrive over it.
// It is made, found good, used until it is over, and never mended.
import { deferred } from '../util/deferred.ts';
import { SluiceError } from '../util/errors.ts';
import type { Hub } from './hub.ts';
import { Listening } from './listening.ts';
import { unheard } from './listener-problem.ts';
import { Pulse, PULSE_CHANNEL } from './pulse.ts';
import { Session, type Beat } from './session.ts';

export interface ReceptionOptions {
  readonly connectionString: string | undefined;
  /** Sends a notification over another connection; false: held back, because the server's queue is filling up. */
  send(this: void, channel: string, payload: string): Promise<boolean>;
  /** Milliseconds. */
  readonly heartbeatMs: number;
  /** Milliseconds; with the heartbeat, how long a dead connection can go unnoticed. */
  readonly deadlineMs: number;
  /** Milliseconds. */
  readonly idleSessionTimeoutMs: number;
}

export interface ReceptionEvents {
  onNotification(this: void, channel: string, payload: string, processId: number): void;
  onBeat(this: void, beat: Beat): void;
  /** LISTEN is in force for these. */
  onListening(this: void, channels: readonly string[]): void;
  onRefused(this: void, channel: string, error: unknown): void;
}

export class Reception {
  readonly #hub: Hub;
  readonly #ended = deferred();
  readonly #pulse: Pulse;
  #session!: Session;
  #listening!: Listening;
  #error: unknown;

  private constructor(hub: Hub, { send, deadlineMs }: ReceptionOptions) {
    this.#hub = hub;
    this.#pulse = new Pulse({
      send,
      deadlineMs,
      onDeaf: () => this.#session.end(unheard(this.#session.pooled)),
    });
  }

  /**
   * Connects, and listens to all that the hub wants. What it hears while it opens is told like anything later.
   *
   * @param doubted a notification must be seen to arrive, whatever the connection looks like
   * @param signal ends it at once, while it opens and later
   * @throws SluiceError unsupported_server, listener_unavailable, connection_lost; what the server or the network says
   */
  static async open(
    hub: Hub,
    options: ReceptionOptions,
    {
      doubted,
      signal,
      ...events
    }: ReceptionEvents & { readonly doubted: boolean; readonly signal: AbortSignal },
  ): Promise<Reception> {
    const reception = new Reception(hub, options);
    reception.#session = await Session.open({
      ...options,
      signal,
      onNotification: (channel, payload, processId) => {
        reception.#pulse.heard();
        events.onNotification(channel, payload, processId);
      },
      onBeat: (beat) => {
        events.onBeat(beat);
        void reception.#listening.sweep();
        void reception.#pulse.beat();
      },
      onEnd: (error) => reception.#end(error),
    });
    reception.#listening = new Listening({ session: reception.#session, hub, ...events });
    const onAbort = (): void => reception.#pulse.stop();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      await reception.#prepare(doubted, signal);
    } catch (error) {
      await reception.close();
      throw error;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
    return reception;
  }

  /** Resolves when it is over. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  get over(): boolean {
    return this.#session.over;
  }

  /** Why it is over, unless it was closed. */
  get error(): unknown {
    return this.#error;
  }

  /** Listens to what the hub wants by now. */
  settle(): Promise<void> {
    return this.#listening.settle();
  }

  query<Row>(text: string, values: unknown[]): Promise<Row[]> {
    return this.#session.query<Row>(text, values);
  }

  async close(): Promise<void> {
    this.#end(undefined);
    await this.#session.close();
  }

  async #prepare(doubted: boolean, signal: AbortSignal): Promise<void> {
    const { pooled } = this.#session;
    await this.#session.query(`listen "${PULSE_CHANNEL}"`);
    if (pooled || doubted) {
      let heard = false;
      try {
        heard = await this.#pulse.proven();
      } finally {
        // In force on a server connection that is somebody else's by now; most likely it is the one we are given again.
        if (pooled && (!heard || signal.aborted)) await this.#session.query(`unlisten "${PULSE_CHANNEL}"`);
      }
      signal.throwIfAborted();
      if (!heard) throw unheard(pooled);
    }
    await this.#session.keep();
    this.#hub.restart();
    await this.#listening.settle();
    if (this.over) {
      throw new SluiceError('connection_lost', 'the listener connection was lost while it was made');
    }
  }

  #end(error: unknown): void {
    this.#error = error;
    this.#pulse.stop();
    this.#ended.resolve();
  }
}
