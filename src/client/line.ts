// One connection for some streams, kept up: connects, reads, hands on what comes, and comes back after whatever ends it.
// What follows what is decided by state.ts; this runs the timers and the fetches. Holds no events.
import type { Frame } from '../protocol/parse.ts';
import { wallClockMs } from '../util/clock.ts';
import { random } from '../util/random.ts';
import { dispatch, type Notices } from './dispatch.ts';
import { createFeed, type Feed } from './feed.ts';
import type { Problem } from './state.ts';
import { chooseRequest, isWide, MAX_STREAMS } from './request.ts';
import type { Settings } from './settings.ts';
import { next, type LineInput, type LineState } from './state.ts';
import type { Connection } from './status.ts';
import type { Subscriber } from './subscriber.ts';
import { framesOf, isEventStream } from './transport.ts';

export interface LineOwner {
  changed(line: Line): void;
  /** Its streams may have caught up with those of other lines. */
  progressed(line: Line): void;
  /** Some of its readers are full. Resolves when none is. */
  crowded(line: Line): Promise<void>;
}

/** No server can send a client away for longer. */
const MAX_DELAY_MS = 3_600_000;

export class Line {
  /** What its subscribers ask of presence: a connection asks it for all its streams. */
  readonly presence: string | undefined;
  readonly feeds: Map<string, Feed> = new Map<string, Feed>();
  /** The set of streams is not what the connection was opened with. */
  stale = false;
  state: LineState;
  readonly #settings: Settings;
  readonly #owner: LineOwner;
  #id: string | null = null;
  #retryMs: number | undefined;
  #asked: readonly Feed[] = [];
  #abort = new AbortController();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #heardAtMs = 0;

  constructor(
    settings: Settings,
    owner: LineOwner,
    presence?: string,
    state: LineState = { kind: 'idle', attempt: 0 },
  ) {
    this.presence = presence;
    this.#settings = settings;
    this.#owner = owner;
    this.state = state;
    this.#enter();
  }

  get connection(): Connection {
    const { state } = this;
    return {
      state: state.kind,
      id: state.kind === 'live' ? this.#id : null,
      streams: [...this.feeds.keys()],
      problem: (state as { readonly problem?: Problem }).problem ?? null,
    };
  }
  get readers(): Subscriber[] {
    return [...new Set([...this.feeds.values()].flatMap(({ subscribers }) => [...subscribers]))];
  }

  /** Takes on all streams of a subscriber, if none is being read here, none starts elsewhere, and there is room. */
  begin(subscriber: Subscriber): boolean {
    const { feeds, state, presence } = this;
    const { streams, after } = subscriber;
    const begun = streams.map(
      (stream) => feeds.get(stream) ?? createFeed(stream, subscriber.startOf(stream)),
    );
    if (state.kind === 'refused' || state.kind === 'failed' || presence !== subscriber.presence) return false;
    if (feeds.size > 0 && (isWide(after) || feeds.size + streams.length > MAX_STREAMS)) return false;
    if (begun.some((feed) => feed.position || feed.after !== subscriber.startOf(feed.stream))) return false;
    for (const feed of begun) {
      feeds.set(feed.stream, feed);
      feed.subscribers.add(subscriber);
    }
    this.stale = true;
    return true;
  }

  /** A stream that nobody reads any more is left. */
  leave(feed: Feed, subscriber: Subscriber): void {
    if (!feed.subscribers.delete(subscriber)) return;
    if (feed.subscribers.size > 0) return;
    this.feeds.delete(feed.stream);
    this.stale = true;
  }

  input(input: LineInput): void {
    const settings = this.#settings;
    const before = this.state;
    const initialMs = this.#retryMs ?? settings.initialMs;
    this.state = next(before, input, { ...settings, initialMs, nowMs: wallClockMs(), random: random() });
    if (this.state === before) return;
    this.#enter();
    this.#owner.changed(this);
  }

  /** The page is seen again, perhaps after a sleep in which no timer ran. */
  wake(): void {
    const isDeaf = wallClockMs() - this.#heardAtMs > this.#settings.watchdogMs;
    this.input({ kind: this.state.kind === 'live' && isDeaf ? 'restart' : 'wake' });
  }

  #enter(): void {
    const { state } = this;
    if (state.kind === 'live') return;
    clearTimeout(this.#timer);
    this.#abort.abort();
    if (state.kind === 'connecting') this.#connect(state.refused);
    else if ('delayMs' in state)
      this.#timer = setTimeout(() => this.input({ kind: 'elapsed' }), Math.min(state.delayMs, MAX_DELAY_MS));
  }

  #connect(refused: Problem | undefined): void {
    const { signal } = (this.#abort = new AbortController());
    this.#id = null;
    this.#heard();
    void this.#read(signal, refused)
      .catch((error: unknown) => lost(String(error)))
      .then((input) => signal.aborted || this.input(input));
  }

  async #read(signal: AbortSignal, refused: Problem | undefined): Promise<LineInput> {
    const { fetch, url, headers: given } = this.#settings;
    const headers = new Headers(typeof given === 'function' ? await given({ refused }) : given);
    // There before anything is told: notices that waited for it could overtake each other.
    const notices = this.presence ? await import('./presence.ts') : undefined;
    signal.throwIfAborted(); // another try is under way: what is asked is its to say
    const { readings, after, lastEventId } = chooseRequest([...this.feeds.values()]);
    this.#asked = readings;
    this.stale = false;
    const address = url();
    for (const { stream } of readings) address.searchParams.append('stream', stream);
    if (after) address.searchParams.set('after', after);
    if (this.presence) address.searchParams.set('presence', this.presence);
    headers.set('accept', 'text/event-stream');
    if (lastEventId) headers.set('last-event-id', lastEventId);
    const response = await fetch(address.href, { cache: 'no-store', headers, signal });
    signal.throwIfAborted();
    if (!isEventStream(response)) {
      const { readAnswer } = await import('./answer.ts');
      return readAnswer(response, wallClockMs());
    }
    this.input({ kind: 'opened' });
    for await (const frames of framesOf(response)) {
      signal.throwIfAborted();
      this.#heard();
      for (const frame of frames) {
        // What a frame leads to may end this connection; the rest comes again on the next one.
        this.#take(frame, notices);
        signal.throwIfAborted();
      }
      await this.#settle(signal);
    }
    return { kind: 'lost' };
  }

  /** Silence for this long is a dead connection, however whole it looks: servers send heartbeats. */
  #heard(): void {
    const { watchdogMs } = this.#settings;
    this.#heardAtMs = wallClockMs();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.input(lost('silence')), watchdogMs);
  }

  #take(frame: Frame, notices: Notices): void {
    this.#retryMs = frame.retry || this.#retryMs; // of 0 no wait could grow
    const { connectionId, retryMs } = dispatch(frame, this.#asked, this.feeds, notices);
    if (retryMs !== undefined) this.input({ kind: 'lost', waitMs: retryMs });
    if (connectionId === undefined) return;
    this.#id = connectionId;
    this.#owner.changed(this);
  }

  async #settle(signal: AbortSignal): Promise<void> {
    this.#owner.progressed(this);
    const isAnswered = this.#asked.every(({ position }) => position);
    if (isAnswered && this.#asked.length < this.feeds.size) return this.input({ kind: 'restart' });
    if (!this.readers.some((reader) => reader.full)) return;
    clearTimeout(this.#timer); // nothing is heard while nothing is read
    await this.#owner.crowded(this);
    if (!signal.aborted) this.#heard();
  }
}

const lost = (detail: string): LineInput => ({
  kind: 'lost',
  problem: { status: 0, title: 'lost', detail },
});
