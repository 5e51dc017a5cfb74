// Where readers begin who have no cursor: at a stream's end, as most new connections do, at its start, or after an offset.
// Whoever asks before a read has begun shares it (thousands connect at once after a deployment), for it sees all that was
// committed when they asked; one that had begun before may not, and is left alone.
import type { ParsedPosition } from '../protocol/position.ts';
import type { Pages } from './pages.ts';
import type { Start } from './start.ts';

/** A place that is the same for all who ask for it. */
export type Beginning = Exclude<ParsedPosition, { readonly kind: 'cursor' }>;

interface Asked {
  readonly start: Promise<Start>;
  readonly signals: (AbortSignal | undefined)[];
}

export class Beginnings {
  readonly #pages: Pick<Pages, 'start'>;
  readonly #find: (stream: string, after: Beginning) => Promise<Start>;
  readonly #waiting = new Map<string, Asked>(); // reads that have not begun

  /** @param find a read of where the stream ends, or of another place in it */
  constructor(pages: Pick<Pages, 'start'>, find: (stream: string, after: Beginning) => Promise<Start>) {
    this.#pages = pages;
    this.#find = find;
  }

  /**
   * @param signal once those of all who share a read are aborted, it is not made
   * @throws SluiceError stream_not_found
   */
  find(stream: string, after: Beginning, signal?: AbortSignal): Promise<Start> {
    const key = `${after.kind === 'offset' ? after.offset : after.kind}:${stream}`;
    const asked = this.#waiting.get(key) ?? this.#ask(key, stream, after);
    asked.signals.push(signal);
    return asked.start;
  }

  #ask(key: string, stream: string, after: Beginning): Asked {
    const signals: Asked['signals'] = [];
    const start = this.#pages.start(async () => {
      this.#waiting.delete(key);
      if (signals.every((signal) => signal?.aborted)) signals[0]?.throwIfAborted();
      return this.#find(stream, after);
    });
    const asked = { start, signals };
    this.#waiting.set(key, asked);
    return asked;
  }
}
