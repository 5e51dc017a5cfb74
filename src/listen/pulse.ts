// Whether notifications still arrive: a heart that beats over the query side and is heard over the listener. A
// connection on which every statement is answered may yet be deaf (a pooler that forgot the LISTEN, two addresses that
// lead to different servers), and only a notification from elsewhere shows it.
//
// All processes of a database share one channel, and whoever has heard anything within a beat says nothing: together
// they send about one notification a beat, however many they are.
import { deadline } from '../util/deadline.ts';
import { deferred } from '../util/deferred.ts';
import { SluiceError } from '../util/errors.ts';

export const PULSE_CHANNEL = 'sluice:pulse';

export interface PulseOptions {
  /** Sends a notification over the query side; false: it was not sent, on purpose. */
  send(this: void, channel: string, payload: string): Promise<boolean>;
  /** How long a notification may take once its transaction has committed, in milliseconds. */
  readonly deadlineMs: number;
  onDeaf(this: void): void;
}

export class Pulse {
  readonly #options: PulseOptions;
  #heard = 0;
  #heardAtBeat = 0;
  #sending = false;
  #stopped = false;
  readonly #end = deferred<true>();
  #cancel: (() => void) | undefined;

  constructor(options: PulseOptions) {
    this.#options = options;
  }

  /** A notification arrived, whichever. */
  heard(): void {
    this.#heard += 1;
    this.#cancel?.();
    this.#cancel = undefined;
  }

  /** Sends one if nothing was heard since the last beat. What keeps it from being sent says nothing of the listener. */
  async beat(): Promise<void> {
    const quiet = this.#heard === this.#heardAtBeat;
    this.#heardAtBeat = this.#heard;
    if (!quiet || this.#sending || this.#cancel || this.#stopped) return;
    await this.#send().catch(() => {}); // those who query are told by their queries
  }

  /** Whether a notification that is sent now arrives in time, or the session ends before. Rejects if it could not be sent. */
  async proven(): Promise<boolean> {
    const before = this.#heard;
    const sent = await Promise.race([this.#options.send(PULSE_CHANNEL, ''), this.#end.promise]);
    if (this.#heard !== before || this.#stopped) return true;
    if (!sent) {
      throw new SluiceError(
        'overloaded',
        "whether notifications arrive could not be tried: the server's queue of them is more than half full; end the transaction of a listening session that keeps it",
      );
    }
    return new Promise((resolve) => {
      const late = deadline(this.#options.deadlineMs, () => {
        this.#cancel = undefined;
        resolve(false);
      });
      this.#cancel = () => {
        late();
        resolve(true);
      };
    });
  }

  /** The session is over; nothing more is expected of it. */
  stop(): void {
    this.#stopped = true;
    this.#end.resolve(true);
    this.#cancel?.();
    this.#cancel = undefined;
  }

  async #send(): Promise<void> {
    const before = this.#heard;
    this.#sending = true;
    try {
      const sent = await this.#options.send(PULSE_CHANNEL, '');
      if (!sent || this.#stopped || this.#heard !== before) return;
      this.#cancel = deadline(this.#options.deadlineMs, () => {
        this.#cancel = undefined;
        this.#options.onDeaf();
      });
    } finally {
      this.#sending = false;
    }
  }
}
