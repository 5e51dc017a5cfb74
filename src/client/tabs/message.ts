// What tabs say to each other. `tab` is who speaks; ids of tabs and subscriptions are never used twice, so that what is
// late from a former leader or a former subscription is told apart by comparing. Pages of an older version stay open for
// days: whoever changes what is said here gives the channel another name (tabs.ts), and each version shares among itself.
import type { StreamItem } from '../item.ts';
import type { Status } from '../status.ts';

/** To every tab, on the channel they share. */
export type Message =
  /** Who leads? */
  | { readonly kind: 'hello'; readonly tab: string }
  | { readonly kind: 'leader'; readonly tab: string; readonly status: Status }
  | { readonly kind: 'subscribe'; readonly tab: string; readonly leader: string; readonly wanted: Wanted }
  | { readonly kind: 'unsubscribe'; readonly tab: string; readonly id: string }
  /** The last items were taken; more may come. */
  | { readonly kind: 'taken'; readonly tab: string; readonly id: string };

export interface Wanted {
  readonly id: string;
  readonly streams: readonly string[];
  readonly after: string;
  /** Where it stands in each stream, where that is known; beats `after`. */
  readonly positions: readonly (string | undefined)[];
  readonly presence: string | undefined;
}

/** From the leader to one tab, on that tab's own channel. */
export type Delivery =
  | {
      readonly kind: 'items';
      readonly id: string;
      readonly items: readonly StreamItem[];
      /** Where the subscription stands after them, as far as that is known. */
      readonly positions: readonly (string | undefined)[];
    }
  | {
      readonly kind: 'ended';
      readonly id: string;
      readonly message: string;
      readonly code: string | undefined;
    };
