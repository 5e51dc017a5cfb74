// The connections of a client: which stream is read on which. One, as far as the bound of streams allows. What is rare
// is put in order by rearrange.ts, loaded when it first happens: somebody joins a stream that is being read, or cannot
// keep up with others; a server refuses several streams.
import { SluiceError, type SluiceErrorCode } from '../util/errors.ts';
import { Line, type LineOwner } from './line.ts';
import { listenToPage } from './page.ts';
import type * as Rearrange from './rearrange.ts';
import type { Refusals } from './refusals.ts';
import type { Settings } from './settings.ts';
import type { LineState, Problem } from './state.ts';
import { summarize, type Status } from './status.ts';
import type { Subscriber } from './subscriber.ts';

export class Lines implements LineOwner, Rearrange.Connections {
  readonly all: Set<Line> = new Set<Line>();
  refusals: Refusals | undefined;
  readonly #settings: Settings;
  readonly #onStatus: (status: Status) => void;
  #isFlushing = false;
  #isClosed = false;
  readonly #unlisten: () => void;

  constructor(settings: Settings, onStatus: (status: Status) => void) {
    this.#settings = settings;
    this.#onStatus = onStatus;
    const toEach = (act: (line: Line) => void) => (): void => this.all.forEach(act);
    this.#unlisten = listenToPage(
      // Another network may be there: what looks connected is not.
      toEach((line) => line.input({ kind: line.state.kind === 'live' ? 'restart' : 'wake' })),
      toEach((line) => line.input({ kind: 'lost' })),
      toEach((line) => line.wake()),
    );
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
    const { state } = line;
    if (state.kind === 'refused' || state.kind === 'failed') {
      if (line.feeds.size > 1)
        // Without the parts, the whole is asked for once more.
        this.#rearranging(
          (how) => how.split(this, line),
          () => line.input({ kind: 'split' }),
        );
      else {
        this.refusals?.explain(line.connection);
        if (state.kind === 'failed')
          for (const subscriber of line.readers) subscriber.end(errorOf(state.problem));
      }
    }
    this.tell();
  }

  progressed(line: Line): void {
    if (this.all.size > 1) this.#rearranging((how) => how.unite(this, line));
  }

  crowded(line: Line): Promise<void> {
    return loadRearrange().then((how) => how.makeRoom(this, line));
  }

  close(): void {
    this.#unlisten();
    this.#isClosed = true;
    this.tell();
  }

  addLine(presence?: string, state?: LineState): Line {
    const line = new Line(this.#settings, this, presence, state);
    this.all.add(line);
    return line;
  }

  flushSoon(): void {
    if (this.#isFlushing) return;
    this.#isFlushing = true;
    queueMicrotask(() => {
      this.#isFlushing = false;
      for (const line of this.all) {
        if (line.feeds.size === 0) {
          this.all.delete(line);
          line.input({ kind: 'close' });
        } else if (line.stale) line.input({ kind: 'restart' });
      }
      this.tell();
    });
  }

  tell(): void {
    const status = summarize([...this.all].map(({ connection }) => connection));
    this.#onStatus(this.#isClosed ? { ...status, state: 'closed' } : status);
  }

  #place(subscriber: Subscriber): void {
    // What was under way when it was closed is carried by another now; who left meanwhile, by nobody.
    if (this.#isClosed || subscriber.over) return;
    const takes = (line: Line): boolean =>
      !this.refusals?.concern([...line.feeds.keys(), ...subscriber.streams]) && line.begin(subscriber);
    if (subscriber.apart || ![...this.all].some(takes)) this.addLine(subscriber.presence).begin(subscriber);
    this.flushSoon();
  }

  // Without it nothing is wrong, only less tidy, and the next occasion tries again.
  #rearranging(use: (how: typeof Rearrange) => unknown, otherwise = (): void => {}): void {
    void loadRearrange().then(use, otherwise);
  }
}

const loadRearrange = (): Promise<typeof Rearrange> => import('./rearrange.ts');

/** What a subscription throws that was turned away for good. */
export const errorOf = ({ detail, code }: Problem): Error =>
  code ? new SluiceError(code as SluiceErrorCode, detail) : new TypeError(detail);
