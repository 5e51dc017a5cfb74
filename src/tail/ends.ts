// Where streams end, for readers that begin there: most new connections do. Whoever asks before a read has begun shares it
// (thousands connect at once after a deployment), for it sees all that was committed when they asked; one that had begun
// before may not, and is left alone.
import type { Pages } from './pages.ts';
import type { Start } from './start.ts';

interface Asked {
  readonly start: Promise<Start>;
  readonly signals: (AbortSignal | undefined)[];
}

export class Ends {
  readonly #pages: Pick<Pages, 'start'>;
  readonly #find: (stream: string) => Promise<Start>;
  readonly #waiting = new Map<string, Asked>(); // reads that have not begun

  /** @param find a read of the stream's end */
  constructor(pages: Pick<Pages, 'start'>, find: (stream: string) => Promise<Start>) {
    this.#pages = pages;
    this.#find = find;
  }

  /**
   * @param signal once those of all who share a read are aborted, it is not made
   * @throws SluiceError stream_not_found
   */
  find(stream: string, signal?: AbortSignal): Promise<Start> {
    const asked = this.#waiting.get(stream) ?? this.#ask(stream);
    asked.signals.push(signal);
    return asked.start;
  }

  #ask(stream: string): Asked {
    const signals: Asked['signals'] = [];
    const start = this.#pages.start(async () => {
      this.#waiting.delete(stream);
      if (signals.every((signal) => signal?.aborted)) signals[0]?.throwIfAborted();
      return this.#find(stream);
    });
    const asked = { start, signals };
    this.#waiting.set(stream, asked);
    return asked;
  }
}
