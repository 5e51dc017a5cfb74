/// <reference lib="esnext.disposable" preserve="true" />
// The client that users make: puts the parts together and checks what it is given. Makes no connection before something
// is subscribed to, so that it can be made anywhere, on a server too.
import type { Position } from '../protocol/position.ts';
import type { Carrier } from './carrier.ts';
import { errorOf, Lines } from './lines.ts';
import { createSource, type Observable } from './observable.ts';
import { MAX_STREAMS } from './request.ts';
import { settingsOf, type ClientOptions } from './settings.ts';
import { startText } from './standing.ts';
import { summarize, type Status } from './status.ts';
import { Subscriber, type Subscription } from './subscriber.ts';

export interface SubscribeOptions {
  /** Start strictly after this: a cursor as received, an offset, `start`, or `end`. Default `end`. */
  readonly after?: Position | undefined;
  /** Ends the subscription. */
  readonly signal?: AbortSignal | undefined;
  /**
   * Asks who is present on the streams, and is present with this state, as JSON. Needs a grant of presence. Default: no.
   */
  readonly presence?: unknown;
}

export interface Client extends AsyncDisposable {
  /**
   * Events of one or more streams, each once, in the order of its stream, and resumed exactly wherever a connection
   * breaks; where that is impossible a `gap` or `reset` says so.
   *
   * @throws RangeError for no stream or more than 20, SluiceError cursor_invalid, TypeError where `url` is no address
   * (a relative one outside of a page). The iteration throws what the server refuses for good (SluiceError with its
   * code, or TypeError); 401, 403 and 404 only show in `status`, and are asked again.
   * @example
   * for await (const item of client.subscribe('orders', { after: cursorFromThePage })) {
   *   if (item.kind === 'event') show(item.data);
   * }
   */
  subscribe<T = unknown>(streams: string | readonly string[], options?: SubscribeOptions): Subscription<T>;
  /** How the connections are. */
  readonly status: Observable<Status>;
  /** Ends all subscriptions, later ones at once, and the connections with them. */
  close(): Promise<void>;
}

/**
 * A client for the events that a Sluice handler serves. Nothing is connected before something is subscribed to.
 *
 * @throws RangeError for an option that is out of bounds
 * @example
 * const client = createClient({ url: '/v1/events', headers: async ({ refused }) => ({ authorization: await token(refused) }) });
 */
export function createClient(options: ClientOptions): Client {
  const settings = settingsOf(options);
  const status = createSource<Status>(summarize([]));
  /** With what ends each. */
  const subscribers = new Map<Subscriber, AbortSignal | undefined>();
  let isClosed = false;
  const direct = (): Carrier => new Lines(settings, status.set);
  const share = options.shareAcrossTabs;
  const carrier = share
    ? import('./tabs/tabs.ts')
        .then(({ carryAcrossTabs }) =>
          carryAcrossTabs(String(share), settings, status.set, { Lines, Subscriber, errorOf }),
        )
        .catch(direct)
    : direct();
  const carry = (act: (carrier: Carrier) => void): void =>
    'then' in carrier ? void carrier.then(act) : act(carrier);

  // A signal has one listener of ours, however many subscriptions it ends: Node warns of a leak from the eleventh on.
  const closeEnded = (): void => {
    for (const [subscriber, signal] of subscribers)
      if (isClosed || signal?.aborted) subscriber.close(signal?.reason);
  };

  const subscribe = (streams: string | readonly string[], options: SubscribeOptions = {}): Subscriber => {
    const { signal, after = 'end', presence } = options;
    settings.url(); // what is no address here would only be asked for over and over
    const names = [...new Set([streams].flat())];
    if (!names[0] || names.length > MAX_STREAMS)
      throw new RangeError(`${names.length} streams; a subscription takes 1 to ${MAX_STREAMS}`);
    const subscriber = new Subscriber(
      { streams: names, after: startText(after), presence: JSON.stringify(presence) },
      () => {
        subscribers.delete(subscriber);
        if (![...subscribers.values()].includes(signal)) signal?.removeEventListener('abort', closeEnded);
        carry((carrier) => carrier.detach(subscriber));
      },
    );
    signal?.addEventListener('abort', closeEnded);
    subscribers.set(subscriber, signal);
    closeEnded();
    carry((carrier) => carrier.attach(subscriber));
    return subscriber;
  };
  const close = async (): Promise<void> => {
    isClosed = true;
    closeEnded();
    carry((carrier) => carrier.close());
  };
  return {
    subscribe: subscribe as Client['subscribe'],
    status,
    close,
    [Symbol.asyncDispose]: close,
  };
}
