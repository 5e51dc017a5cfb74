// The client that users make: puts the parts together and checks what it is given. Makes no connection before something
// is subscribed to, so that it can be made anywhere, on a server too.
import type { Position } from '../protocol/position.ts';
import { SluiceError } from '../util/errors.ts';
import { Lines, type Carrier } from './lines.ts';
import { createSource, type Observable } from './observable.ts';
import { MAX_STREAMS } from './request.ts';
import { settingsOf, type ClientOptions } from './settings.ts';
import { startText } from './standing.ts';
import { CLOSED, summarize, type Status } from './status.ts';
import { Subscriber, type Subscription } from './subscriber.ts';

export interface SubscribeOptions {
  /** Start strictly after this: a cursor as received, an offset, `start`, or `end`. Default `end`. */
  readonly after?: Position | undefined;
  /** Ends the subscription. */
  readonly signal?: AbortSignal | undefined;
}

export interface Client extends AsyncDisposable {
  /**
   * Events of one or more streams, each once, in the order of its stream, and resumed exactly wherever a connection
   * breaks; where that is impossible a `gap` or `reset` says so.
   *
   * @throws RangeError for no stream or more than 20, SluiceError cursor_invalid, closed. The iteration throws what the
   * server refuses for good (SluiceError with its code, or TypeError); 401, 403 and 404 only show in `status`, and are
   * asked again.
   * @example
   * for await (const item of client.subscribe('orders', { after: cursorFromThePage })) {
   *   if (item.kind === 'event') show(item.data);
   * }
   */
  subscribe<T = unknown>(streams: string | readonly string[], options?: SubscribeOptions): Subscription<T>;
  /** How the connections are. */
  readonly status: Observable<Status>;
  /** Ends all subscriptions, and the connections with them. */
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
  const subscribers = new Map<Subscriber, () => void>();
  let isClosed = false;
  const tell = (next: Status): void => {
    if (!isClosed) status.set(next);
  };
  const carrier: Carrier = new Lines(settings, tell);

  const end = (subscriber: Subscriber): void => {
    subscribers.get(subscriber)?.();
    subscribers.delete(subscriber);
    carrier.detach(subscriber);
  };
  const subscribe = (streams: string | readonly string[], options: SubscribeOptions = {}): Subscriber => {
    const { after = 'end', signal } = options;
    const names = [...new Set(typeof streams === 'string' ? [streams] : streams)];
    if (names.length === 0 || names.length > MAX_STREAMS) {
      throw new RangeError(`${names.length} streams are asked for; a subscription takes 1 to ${MAX_STREAMS}`);
    }
    const subscriber = new Subscriber(names, startText(after), end);
    const abort = (): void => subscriber.close(signal?.reason);
    if (isClosed) subscriber.end(new SluiceError('closed', 'the client was closed'));
    else if (signal?.aborted) abort();
    else {
      signal?.addEventListener('abort', abort);
      subscribers.set(subscriber, () => signal?.removeEventListener('abort', abort));
      carrier.attach(subscriber);
    }
    return subscriber;
  };
  const close = (): Promise<void> => {
    for (const subscriber of subscribers.keys()) subscriber.close();
    carrier.close();
    tell(CLOSED);
    isClosed = true;
    return Promise.resolve();
  };
  return {
    subscribe: subscribe as Client['subscribe'],
    status: { get: status.get, subscribe: status.subscribe },
    close,
    [Symbol.asyncDispose]: close,
  };
}
