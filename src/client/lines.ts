// The connections of a client: which stream is read on which. One, as far as the bound of streams allows. What is rare
// is put in order by rearrange.ts, loaded when it first happens: somebody joins a stream that is being read, or cannot
// keep up with others; a server refuses several streams.
import { SluiceError, type SluiceErrorCode } from '../util/errors.ts';
import { Line, type LineOwner } from './line.ts';
import type { Rearrange } from './rearrange.ts';
import type { Settings } from './settings.ts';
import type { LineState } from './state.ts';
import { summarize, type Status } from './status.ts';
import type { Subscriber } from './subscriber.ts';

export class Lines implements LineOwner {
  readonly all: Set<Line> = new Set<Line>();
  readonly #settings: Settings;
  readonly #onStatus: (status: Status) => void;
  #isFlushing = false;
  #told = '';

  constructor(settings: Settings, onStatus: (status: Status) => void) {
    this.#settings = settings;
    this.#onStatus = onStatus;
  }

  /** Has all streams of a subscriber read, from where it stands. */
  attach(subscriber: Subscriber): void {
    const { streams, apart } = subscriber;
    const isRead = [...this.all].some(({ feeds }) => streams.some((stream) => feeds.get(stream)?.position));
    const place = (): void => this.#place(subscriber);
    if (!isRead || apart) place();
    else this.#rearranging((how) => subscriber.over || how.join(this, subscriber) || place(), place);
  }

  detach(subscriber: Subscriber): void {
    for (const line of this.all) for (const feed of line.feeds.values()) line.leave(feed, subscriber);
    this.flushSoon();
  }

  changed(line: Line): void {
    const { state, feeds } = line;
    if (state.kind === 'failed' || (state.kind === 'refused' && state.problem.status !== 401)) {
      if (feeds.size > 1) this.#rearranging((how) => how.split(this, line));
      else if (state.kind === 'failed') {
        const { title, detail, code } = state.problem;
        const options = { cause: state.problem };
        const error = code
          ? new SluiceError(code as SluiceErrorCode, detail, options)
          : new TypeError(`${title}: ${detail}`, options);
        for (const subscriber of line.readers) subscriber.fail(error);
      }
    }
    this.tell();
  }

  progressed(line: Line): void {
    if (this.all.size > 1) this.#rearranging((how) => how.unite(this, line));
  }

  crowded(line: Line): void {
    this.#rearranging((how) => how.setApart(this, line));
  }

  addLine(state?: LineState): Line {
    const line = new Line(this.#settings, this, state);
    this.all.add(line);
    return line;
  }

  /** Brings the connections in line with what is wanted, once for all that changes in this task. */
  flushSoon(): void {
    if (this.#isFlushing) return;
    this.#isFlushing = true;
    queueMicrotask(() => {
      this.#isFlushing = false;
      for (const line of this.all) {
        if (line.feeds.size === 0) this.all.delete(line);
        if (line.stale) line.input({ kind: line.feeds.size === 0 ? 'close' : 'restart' });
      }
      this.tell();
    });
  }

  tell(): void {
    const connections = [...this.all].map(({ connection }) => connection);
    const text = JSON.stringify(connections);
    if (text === this.#told) return;
    this.#told = text;
    this.#onStatus(summarize(connections));
  }

  #place(subscriber: Subscriber): void {
    if (subscriber.apart || ![...this.all].some((line) => line.begin(subscriber)))
      this.addLine().begin(subscriber);
    this.flushSoon();
  }

  // Without it nothing is wrong, only less tidy, and the next occasion tries again.
  #rearranging(use: (how: Rearrange) => unknown, otherwise = (): void => {}): void {
    void import('./rearrange.ts').then(({ rearrange }) => use(rearrange), otherwise);
  }
}
