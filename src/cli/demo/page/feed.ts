// The page's connection: a subscription of Sluice's own client, and what the visitor may do to it.
//
// Coming back after whatever cuts the connection is the client's affair. This file only steps in where the visitor does:
// who drops the connection and reconnects starts a new subscription after the last cursor. It must never filter, reorder
// or deduplicate: the page exists to show what the client hands out. At most one subscription exists at a time.

import { createClient, type EventItem, type LossItem, type Subscription } from '../../../client.ts';
import { asError } from '../../../util/errors.ts';
import type { Status } from './ledger.ts';

export interface FeedOptions {
  readonly stream: string;
  /** The position to start after, until there is a cursor. */
  readonly after: string;
  readonly onEvent: (event: EventItem) => void;
  readonly onLoss: (loss: LossItem) => void;
  readonly onStatus: (status: Status) => void;
  /** Nothing more comes until `resume`: the server refused for good, say. */
  readonly onEnd: (error: Error) => void;
}

export interface Feed {
  /** Closes the connection and stays away until `resume`. */
  drop(): void;
  /** Connects again, after the last cursor seen. */
  resume(): void;
}

/** Somebody is watching, so it comes back sooner than a page at large should. */
const backoff = { maxMs: 10_000 };
const refusedRetryMs = 5_000;

export function openFeed({ stream, after, onEvent, onLoss, onStatus, onEnd }: FeedOptions): Feed {
  const client = createClient({ url: '/v1/events', backoff, refusedRetryMs });
  let running: Subscription | null = null;
  let cursor = after;

  const show = (): void => {
    if (running === null) onStatus('dropped');
    else onStatus(client.status.get().state === 'live' ? 'live' : 'connecting');
  };

  const read = async (subscription: Subscription): Promise<void> => {
    for await (const items of subscription.batches()) {
      for (const item of items) {
        if (item.kind === 'event') onEvent(item);
        else if (item.kind === 'gap' || item.kind === 'reset') onLoss(item);
      }
    }
  };

  const drop = (): void => {
    const dropped = running;
    if (dropped === null) return;
    cursor = dropped.cursor ?? cursor;
    running = null;
    dropped.close();
    show();
  };

  const resume = (): void => {
    drop();
    const subscription = client.subscribe(stream, { after: cursor });
    running = subscription;
    show();
    read(subscription).catch((error: unknown) => {
      if (running === subscription) drop();
      onEnd(asError(error));
    });
  };

  client.status.subscribe(show);
  resume();
  return { drop, resume };
}
