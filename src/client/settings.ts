// The options of a client, and what they are when nothing is said.
import type { Backoff } from '../util/backoff.ts';
import type { Problem } from './state.ts';
import type { FetchLike } from './transport.ts';

export type HeadersGiven = Readonly<Record<string, string>> | Headers;

/** Called before each attempt to connect; `refused` says why the one before was turned away, so: get a new token. */
export type HeadersFunction = (context: {
  readonly refused: Problem | undefined;
}) => HeadersGiven | Promise<HeadersGiven>;

export interface ClientOptions {
  /**
   * Where events are served, such as `/v1/events` or `https://api.example.org/sluice/v1/events`. Of an address without a
   * path, `/v1/events` is meant. Relative addresses are the page's.
   */
  readonly url: string | URL;
  /** Default: the global one. Bring your own to send cookies to another origin: `credentials: 'include'`. */
  readonly fetch?: FetchLike | undefined;
  /** Sent with each attempt; a function may bring a fresh token each time. */
  readonly headers?: HeadersGiven | HeadersFunction | undefined;
  /**
   * One connection for all tabs of this origin that ask for it, wherever the browser has Web Locks and BroadcastChannel.
   * Tabs share by address, and by this name if one is given: use the user's id where users change. Default false.
   */
  readonly shareAcrossTabs?: boolean | string | undefined;
  /** Silence after which a connection counts as dead, in milliseconds. Default 45 000, three heartbeats. */
  readonly watchdogMs?: number | undefined;
  /** Waits between attempts: random, up to a bound that doubles. Default 1 000 (until the server says), 30 000. */
  readonly backoff?: Partial<Backoff> | undefined;
  /** Between attempts while the server says no, ±20 % by chance. Default 30 000. */
  readonly refusedRetryMs?: number | undefined;
}

/** Everything that has to be known; the base of the backoff until the server names another. */
export interface Settings extends Backoff {
  /** Resolved when it is needed: on a server there is no page to be relative to. */
  readonly url: () => URL;
  readonly fetch: FetchLike;
  readonly headers: HeadersGiven | HeadersFunction;
  readonly canRefresh: boolean;
  readonly watchdogMs: number;
  readonly refusedRetryMs: number;
}

/** @throws RangeError for a time that is none */
export function settingsOf(options: ClientOptions): Settings {
  const { url, headers = {}, watchdogMs = 45_000, backoff = {}, refusedRetryMs = 30_000 } = options;
  // Called without a `this`, which browsers refuse.
  const { fetch = (address, init) => globalThis.fetch(address, init) } = options;
  const { initialMs = 1000, maxMs = 30_000 } = backoff;
  const isTime = (ms: number): boolean => ms > 0 && ms < 2 ** 31; // past that, a timer fires at once
  if (![watchdogMs, initialMs, maxMs, refusedRetryMs].every(isTime))
    throw new RangeError('give times in milliseconds');
  return {
    url: () => {
      const { location } = globalThis as { location?: { href: string } };
      const address = new URL(url, location?.href);
      if (address.pathname === '/') address.pathname = '/v1/events';
      return address;
    },
    fetch,
    headers,
    canRefresh: typeof headers === 'function',
    watchdogMs,
    initialMs,
    maxMs,
    refusedRetryMs,
  };
}
