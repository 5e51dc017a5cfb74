// What the leading tab does for the others: reads what they want over its own connections and hands it on, one batch at a
// time for each subscription, the next when the last was taken. A tab that is gone is told by its lock, which falls free.
import type { Carrier, Parts } from '../lines.ts';
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
  readonly subscribers: Map<string, Subscriber>;
}

export class Leading {
  readonly #hub: Hub;
  readonly #carrier: Carrier;
  readonly #tabs = new Map<string, Served>();
  /** Subscriptions whose last batch is not taken yet. */
  readonly #taken = new Map<string, () => void>();
  #over = false;

  constructor(hub: Hub, carrier: Carrier) {
    this.#hub = hub;
    this.#carrier = carrier;
  }

  take(message: Message): void {
    const { tab } = message;
    if (message.kind === 'subscribe') void this.#serve(this.#servedOf(tab), message.wanted);
    else if (message.kind === 'unsubscribe') this.#tabs.get(tab)?.subscribers.get(message.id)?.close();
    else if (message.kind === 'taken') this.#taken.get(message.id)?.();
    else if (message.kind === 'hello') this.#tabs.get(tab)?.channel.postMessage({ kind: 'here' });
  }

  close(): void {
    this.#over = true;
    for (const tab of this.#tabs.keys()) this.#leave(tab);
  }

  #servedOf(tab: string): Served {
    const known = this.#tabs.get(tab);
    if (known) return known;
    const served = {
      channel: this.#hub.open(`${this.#hub.name} ${tab}`),
      subscribers: new Map<string, Subscriber>(),
    };
    this.#tabs.set(tab, served);
    // Granted when the tab is gone: it holds this lock as long as it lives.
    void this.#hub.locks.request(`${this.#hub.name} ${tab}`, {}, async () => this.#leave(tab));
    return served;
  }

  #leave(tab: string): void {
    const served = this.#tabs.get(tab);
    this.#tabs.delete(tab);
    for (const subscriber of served?.subscribers.values() ?? []) subscriber.close();
    served?.channel.close();
  }

  async #serve({ channel, subscribers }: Served, wanted: Wanted): Promise<void> {
    const { id, streams, positions } = wanted;
    const subscriber = new this.#hub.Subscriber(wanted, () => {
      subscribers.delete(id);
      this.#taken.get(id)?.();
      this.#carrier.detach(subscriber);
    });
    const post = (delivery: Delivery): void => {
      if (!this.#over && subscribers.has(id)) channel.postMessage(delivery);
    };
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
        post({ kind: 'items', id, items, positions: streams.map((stream) => subscriber.at.get(stream)) });
        await taken;
      }
    } catch (error) {
      // Its end took it from the list; that it failed must be told all the same.
      const { message, code } = error as Error & { readonly code?: string };
      if (!this.#over && code !== 'closed')
        channel.postMessage({ kind: 'ended', id, message, code } satisfies Delivery);
    } finally {
      this.#taken.delete(id);
    }
  }
}
