// One connection for all tabs. Whoever holds the lock leads: it reads, for itself directly, for the others through
// leading.ts. When it is gone the next in line leads, and everybody goes on from where they stand. A leader that holds the
// lock but does not answer (frozen, or stopped) loses it. Loaded only by clients that share.
import type { Carrier, Parts } from '../carrier.ts';
import type { Settings } from '../settings.ts';
import type { Status } from '../status.ts';
import type { Subscriber } from '../subscriber.ts';
import { findBrowser, type Channel } from './browser.ts';
import { Leading, type Hub } from './leading.ts';
import type { Delivery, Message } from './message.ts';

type OnStatus = (status: Status) => void;

/** Who left out a connection that all tabs share would leave out all of them. */
const unnamed = (status: Status): Status => ({
  ...status,
  connections: status.connections.map((connection) => ({ ...connection, id: null })),
});

/** Carries subscriptions through whichever tab leads; where browsers do not share, or refuse to, directly. */
export async function carryAcrossTabs(
  name: string,
  settings: Settings,
  onStatus: OnStatus,
  parts: Parts,
): Promise<Carrier> {
  const browser = findBrowser();
  const createCarrier = (onStatus: OnStatus): Carrier => new parts.Lines(settings, onStatus);
  if (!browser) return createCarrier(onStatus);
  const hub = {
    ...browser,
    ...parts,
    name: `sluice ${settings.url().href} ${name}`,
    silenceMs: settings.watchdogMs / 3,
    createCarrier,
  };
  const id = hub.createId();
  return new Promise((resolve) => {
    // Held as long as this tab lives, before anybody hears of it: see leading.ts.
    const share = async (): Promise<void> => {
      const tabs = new Tabs(hub, id, onStatus);
      resolve(tabs);
      await tabs.closed;
    };
    hub.locks.request(`${hub.name} ${id}`, {}, share).catch(() => resolve(createCarrier(onStatus)));
  });
}

/** Between requests for the lock, should each be refused. */
const PAUSE_MS = 1000;

const NOTHING: Status = { state: 'idle', problem: null, connections: [] };

class Tabs implements Carrier {
  readonly #hub: Hub;
  readonly #onStatus: OnStatus;
  readonly #id: string;
  readonly #all: Channel;
  readonly #mine: Channel;
  /** What this tab subscribes to, and under which id the leader knows it now. */
  readonly #subscribers = new Map<Subscriber, string>();
  readonly #closed = new AbortController();
  #leader: string | undefined;
  #own: { readonly carrier: Carrier; readonly leading: Leading } | undefined;
  #status: Status = NOTHING;
  #heardAtMs: number = performance.now();
  #isAsked = false;
  /** The request for the lock, and whether the next is to take it from whoever has it. */
  #waiting = new AbortController();
  #isStealing = false;
  /** Resolves when it is closed. */
  readonly closed: Promise<void>;

  constructor(hub: Hub, id: string, onStatus: OnStatus) {
    const { name } = hub;
    this.#hub = hub;
    this.#onStatus = onStatus;
    this.#id = id;
    this.#all = hub.open(name);
    this.#mine = hub.open(`${name} ${this.#id}`);
    this.#all.addEventListener('message', ({ data }) => this.#hear(data as Message));
    this.#mine.addEventListener('message', ({ data }) => this.#receive(data as Delivery));
    const { signal } = this.#closed;
    this.closed = new Promise((done) => signal.addEventListener('abort', () => done()));
    this.#say({ kind: 'hello', tab: id });
    void this.#stand();
    const watch = setInterval(() => this.#watch(), this.#hub.silenceMs);
    signal.addEventListener('abort', () => clearInterval(watch));
  }

  attach(subscriber: Subscriber): void {
    if (!subscriber.over) this.#want(subscriber);
  }

  detach(subscriber: Subscriber): void {
    const id = this.#subscribers.get(subscriber);
    this.#subscribers.delete(subscriber);
    if (this.#own) this.#own.carrier.detach(subscriber);
    else if (id) this.#say({ kind: 'unsubscribe', tab: this.#id, id });
  }

  close(): void {
    this.#stepDown();
    this.#closed.abort();
    this.#waiting.abort();
    this.#all.close();
    this.#mine.close();
    this.#onStatus({ ...NOTHING, state: 'closed' });
  }

  /** Waits for the lock, or takes it, and leads until it is closed, or the lock is taken away; then waits again. */
  async #stand(): Promise<void> {
    while (!this.#closed.signal.aborted) {
      const { signal } = (this.#waiting = new AbortController());
      const wish = this.#isStealing ? { steal: true } : { signal };
      this.#isStealing = false;
      try {
        await this.#hub.locks.request(this.#hub.name, wish, () => {
          this.#lead();
          return this.closed;
        });
      } catch {
        this.#stepDown();
        if (this.#isStealing) continue;
        this.#say({ kind: 'hello', tab: this.#id }); // whoever took the lock has spoken before this tab could follow
        await new Promise((done) => setTimeout(done, PAUSE_MS));
      }
    }
  }

  #lead(): void {
    if (this.#closed.signal.aborted) return;
    this.#leader = this.#id;
    const carrier: Carrier = this.#hub.createCarrier((status) => {
      if (this.#own?.carrier === carrier) this.#show(unnamed(status));
    });
    this.#own = { carrier, leading: new Leading(this.#hub, carrier) };
    for (const subscriber of this.#subscribers.keys()) this.#want(subscriber);
    // Its own connections say how they are, once there are any; those of the former leader are gone.
    this.#show(this.#subscribers.size > 0 ? this.#status : NOTHING);
  }

  #stepDown(): void {
    const own = this.#own;
    this.#own = undefined;
    this.#leader = undefined;
    if (!own) return;
    own.leading.close();
    for (const subscriber of this.#subscribers.keys()) own.carrier.detach(subscriber);
    own.carrier.close();
  }

  #show(status: Status): void {
    this.#status = status;
    this.#onStatus(status);
    if (this.#own) this.#say({ kind: 'leader', tab: this.#id, status });
  }

  /** Has the leader deliver to a subscriber, from where it stands. */
  #want(subscriber: Subscriber): void {
    const former = this.#subscribers.get(subscriber);
    this.#subscribers.set(subscriber, ''); // what a former leader still delivers is for nobody
    if (this.#own) return this.#own.carrier.attach(subscriber);
    const leader = this.#leader;
    if (leader === undefined) return;
    // Two seem to lead while one wakes up: the one that stays must not go on for nobody.
    if (former) this.#say({ kind: 'unsubscribe', tab: this.#id, id: former });
    const { streams, after, presence } = subscriber;
    const id = this.#hub.createId();
    this.#subscribers.set(subscriber, id);
    const positions = streams.map((stream) => subscriber.at.get(stream));
    this.#say({
      kind: 'subscribe',
      tab: this.#id,
      leader,
      wanted: { id, streams, after, positions, presence },
    });
  }

  #hear(message: Message): void {
    if (message.kind === 'leader') return this.#follow(message.tab, message.status);
    if (message.kind === 'hello' && this.#own)
      this.#say({ kind: 'leader', tab: this.#id, status: this.#status });
    if (message.kind === 'subscribe' && message.leader !== this.#id) return;
    this.#own?.leading.take(message);
  }

  #follow(leader: string, status: Status): void {
    this.#heard();
    if (this.#own) return; // one of the two has lost the lock, and will be told
    this.#status = status;
    this.#onStatus(status);
    if (leader === this.#leader) return;
    this.#leader = leader;
    for (const subscriber of this.#subscribers.keys()) this.#want(subscriber);
  }

  #receive(delivery: Delivery): void {
    this.#heard();
    const { id } = delivery;
    const [subscriber] = [...this.#subscribers].find(([, known]) => known === id) ?? [];
    if (!subscriber) return;
    if (delivery.kind === 'ended') {
      const { message: detail, code } = delivery;
      return subscriber.end(this.#hub.errorOf({ status: 0, title: '', detail, ...(code && { code }) }));
    }
    const { streams } = subscriber;
    const move = (positions: readonly (string | undefined)[], but?: string): void =>
      streams.forEach((stream, index) => {
        const position = positions[index];
        if (position && stream !== but) subscriber.take(stream, position);
      });
    for (const item of delivery.items) {
      // There is none before every stream has begun.
      const { cursor } = item as { readonly cursor?: string };
      const positions = cursor?.split('.') ?? [];
      move(positions, item.stream);
      const position = positions[streams.indexOf(item.stream)];
      if (position) subscriber.take(item.stream, position, item);
      else subscriber.push(item);
    }
    move(delivery.positions);
    if (delivery.items[0])
      void subscriber.drained().then(() => this.#say({ kind: 'taken', tab: this.#id, id }));
  }

  #heard(): void {
    this.#heardAtMs = performance.now();
    this.#isAsked = false;
  }

  #watch(): void {
    if (
      this.#own ||
      this.#subscribers.size === 0 ||
      performance.now() - this.#heardAtMs < this.#hub.silenceMs
    )
      return;
    if (this.#isAsked) {
      this.#heard(); // for as long again, should even this not help
      this.#isStealing = true;
      this.#waiting.abort();
      return;
    }
    this.#isAsked = true;
    this.#say({ kind: 'hello', tab: this.#id });
  }

  #say(message: Message): void {
    if (!this.#closed.signal.aborted) this.#all.postMessage(message);
  }
}
