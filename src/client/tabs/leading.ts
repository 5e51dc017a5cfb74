// What the leading tab does for the others: reads what they want over its own connections and hands it on, one batch at a
// time for each subscription, the next when the last was taken. A tab that is gone is told by its lock, which falls free.
import type { Carrier, Parts } from '../carrier.ts';
import type { Status } from '../status.ts';
import type { Subscriber } from '../subscriber.ts';
import type { Browser, Channel } from './browser.ts';
import type { Delivery, Message, Wanted } from './message.ts';

/** What tabs have in common. */
export interface Hub extends Browser, Parts {
  /** Of the lock and of the channel that all share. */
  readonly name: string;
  /** A leader that was silent for this long is asked whether it is there, and has as long to answer. */
  readonly silenceMs: number;
  readonly createCarrier: (onStatus: (status: Status) => void) => Carrier;
}

interface Served {
  readonly channel: Channel;
  /** Until the tab is gone. */
  readonly post: (delivery: Delivery) => void;
  readonly subscribers: Map<string, Subscriber>;
}

export class Leading {
  readonly #hub: Hub;
  readonly #carrier: Carrier;
  readonly #closed = new AbortController();
  readonly #tabs = new Map<string, Served>();
  /** Subscriptions whose last batch is not taken yet. */
  readonly #taken = new Map<string, () => void>();

  constructor(hub: Hub, carrier: Carrier) {
    this.#hub = hub;
    this.#carrier = carrier;
  }

  take(message: Message): void {
    const { tab } = message;
    if (message.kind === 'subscribe') void this.#serve(this.#servedOf(tab), message.wanted);
    else if (message.kind === 'unsubscribe')
      this.#drop(this.#tabs.get(tab)?.subscribers.get(message.id), message.id);
    else if (message.kind === 'taken') this.#taken.get(message.id)?.();
  }

  close(): void {
    this.#closed.abort();
    for (const tab of this.#tabs.keys()) this.#leave(tab);
  }

  #servedOf(tab: string): Served {
    const known = this.#tabs.get(tab);
    if (known) return known;
    const channel = this.#hub.open(`${this.#hub.name} ${tab}`);
    const served: Served = {
      channel,
      post: (delivery) => this.#tabs.get(tab) === served && channel.postMessage(delivery),
      subscribers: new Map<string, Subscriber>(),
    };
    this.#tabs.set(tab, served);
    // Granted when the tab is gone: it holds this lock as long as it lives.
    this.#hub.locks
      .request(`${this.#hub.name} ${tab}`, this.#closed, async () => this.#leave(tab))
      .catch(() => {}); // closed before that
    return served;
  }

  #leave(tab: string): void {
    const served = this.#tabs.get(tab);
    this.#tabs.delete(tab);
    for (const [id, subscriber] of served?.subscribers ?? []) this.#drop(subscriber, id);
    served?.channel.close();
  }

  /** Nobody takes what it still has. */
  #drop(subscriber: Subscriber | undefined, id: string): void {
    subscriber?.close();
    this.#taken.get(id)?.();
  }

  async #serve({ post, subscribers }: Served, wanted: Wanted): Promise<void> {
    const { id, streams, positions } = wanted;
    const subscriber = new this.#hub.Subscriber(wanted, () => this.#carrier.detach(subscriber));
    streams.forEach((stream, index) => positions[index] && subscriber.at.set(stream, positions[index]));
    subscribers.set(id, subscriber);
    this.#carrier.attach(subscriber);
    subscriber.ready.then(
      () => post({ kind: 'items', id, items: [], positions: subscriber.cursor?.split('.') ?? [] }),
      () => {},
    );
    try {
      for await (const items of subscriber.batches()) {
        const taken = new Promise<void>((done) => this.#taken.set(id, done));
        post({ kind: 'items', id, items, positions: streams.map((stream) => subscriber.taken.get(stream)) });
        await taken;
      }
    } catch (error) {
      const { message, code } = error as Error & { readonly code?: string };
      post({ kind: 'ended', id, message, code });
    } finally {
      subscribers.delete(id);
      this.#taken.delete(id);
    }
  }
}
