// The last events of a stream, for a component that shows them.
import type { Client } from '../client/client.ts';
import type { EventItem, LossItem, StreamItem } from '../client/item.ts';
import type { Position } from '../protocol/position.ts';
import type { StreamNames } from './stream-store.ts';
import { useStreamReducer } from './use-stream-reducer.ts';

export interface UseStreamOptions {
  /** Default: the end. The one given first counts. */
  readonly after?: Position | undefined;
  /** How many events are kept, the latest. Default 100. The one given first counts. */
  readonly limit?: number | undefined;
}

export interface StreamView<T> {
  /** The latest, in order. */
  readonly events: readonly EventItem<T>[];
  /** The last `gap` or `reset`; a reset has also emptied `events` of its stream. */
  readonly loss: LossItem | null;
  /** Why it has ended, or could not begin, if so. */
  readonly error: Error | null;
}

interface Kept<T> {
  readonly events: readonly EventItem<T>[];
  readonly loss: LossItem | null;
}

const NOTHING: Kept<never> = { events: [], loss: null };

/**
 * The last events of one or more streams; of none for null or an empty list. Renders on a server as if nothing had come yet.
 *
 * @example
 * const { events } = useStream<Order>(client, 'orders', { after: cursorFromThePage, limit: 20 });
 */
export function useStream<T = unknown>(
  client: Client,
  streams: StreamNames,
  { after, limit = 100 }: UseStreamOptions = {},
): StreamView<T> {
  const { value, error } = useStreamReducer<T, Kept<T>>(client, streams, {
    after,
    initial: NOTHING,
    reduce: (kept, item) => keep(kept, item, limit),
  });
  return { ...value, error };
}

/** Pure. */
export function keep<T>(kept: Kept<T>, item: StreamItem<T>, limit: number): Kept<T> {
  if (item.kind === 'event')
    return { ...kept, events: limit > 0 ? [...kept.events, item].slice(-limit) : [] };
  if (item.kind === 'gap') return { ...kept, loss: item };
  if (item.kind !== 'reset') return kept;
  return { events: kept.events.filter(({ stream }) => stream !== item.stream), loss: item };
}
