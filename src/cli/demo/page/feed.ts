// The page's connection: a stock EventSource, and what to do when it gives up.
//
// While an EventSource lives, resuming is its own affair: it reconnects with `Last-Event-ID`. This file only steps in
// where it cannot: after an answer it takes as final (readyState CLOSED), and after the visitor closed it. Then a new
// one starts `?after=` the last cursor seen. It must never filter, reorder or deduplicate: the page exists to show
// what really arrived. At most one EventSource and one timer exist at a time.

import type { Status } from './ledger.ts';

/** One event in the envelope format of `GET /v1/events`. */
export interface Envelope {
  readonly stream: string;
  readonly offset: string;
  readonly type: string | null;
  readonly key: string | null;
  readonly data: unknown;
  readonly at: string;
}

/** History that is gone: `gap` was trimmed away, `reset` is another history. Delivery goes on from `oldest`. */
export interface Break {
  readonly kind: 'gap' | 'reset';
  readonly oldest: string;
  readonly head: string;
}

export interface FeedOptions {
  readonly stream: string;
  /** The position to start after, until there is a cursor. */
  readonly after: string;
  readonly onEvent: (event: Envelope) => void;
  readonly onBreak: (gone: Break) => void;
  readonly onStatus: (status: Status) => void;
}

export interface Feed {
  /** Closes the connection and stays away until `resume`. */
  drop(): void;
  /** Connects again, after the last cursor seen. */
  resume(): void;
}

const firstDelayMs = 500;
const maxDelayMs = 10_000;

export function openFeed(options: FeedOptions): Feed {
  let source: EventSource | null = null;
  let timer: number | undefined;
  let failures = 0;
  let cursor = options.after;

  const remember = (message: MessageEvent): void => {
    // Before the first id of a connection this is empty, and the cursor of the one before still holds.
    if (message.lastEventId !== '') cursor = message.lastEventId;
  };

  const onBreak = (kind: Break['kind'], message: MessageEvent<string>): void => {
    const { oldest, head } = JSON.parse(message.data) as Omit<Break, 'kind'>;
    // The old cursor would only be answered with the same notice again.
    cursor = String(BigInt(oldest) - 1n);
    options.onBreak({ kind, oldest, head });
  };

  const onError = (): void => {
    options.onStatus('connecting');
    if (source?.readyState !== EventSource.CLOSED) return;
    source = null;
    timer = window.setTimeout(connect, backoff(failures++));
  };

  const connect = (): void => {
    const query = new URLSearchParams({ stream: options.stream, after: cursor });
    const opened = new EventSource(`/v1/events?${query.toString()}`);
    source = opened;
    options.onStatus('connecting');
    opened.addEventListener('open', () => {
      failures = 0;
      options.onStatus('live');
    });
    opened.addEventListener('message', (message: MessageEvent<string>) => {
      remember(message);
      options.onEvent(JSON.parse(message.data) as Envelope);
    });
    opened.addEventListener('sluice:gap', (message: MessageEvent<string>) => onBreak('gap', message));
    opened.addEventListener('sluice:reset', (message: MessageEvent<string>) => onBreak('reset', message));
    opened.addEventListener('sluice:shutdown', () => options.onStatus('connecting'));
    opened.addEventListener('error', onError);
  };

  const disconnect = (): void => {
    window.clearTimeout(timer);
    source?.close();
    source = null;
  };

  connect();
  return {
    drop(): void {
      disconnect();
      options.onStatus('dropped');
    },
    resume(): void {
      disconnect();
      failures = 0;
      connect();
    },
  };
}

/** Doubles up to ten seconds; the random half keeps many pages from returning in the same instant. */
function backoff(failures: number): number {
  const delayMs = Math.min(maxDelayMs, firstDelayMs * 2 ** failures);
  return delayMs / 2 + (Math.random() * delayMs) / 2;
}
