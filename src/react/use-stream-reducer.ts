// A component's own reading of a stream: whatever its reducer makes of what comes.
import { useMemo, useSyncExternalStore } from 'react';
import type { Client } from '../client/client.ts';
import type { StreamItem } from '../client/item.ts';
import type { Position } from '../protocol/position.ts';
import { createStreamStore, type StreamNames } from './stream-store.ts';

export interface ReducerOptions<T, S> {
  /** The value before anything has come; also what a server renders. */
  readonly initial: S;
  /** The value after one more item. Pure; the one given first is used. After a `reset`, drop what came before. */
  readonly reduce: (value: S, item: StreamItem<T>) => S;
  /** Default: the end. The one given first counts: it is where reading starts, not where it stands. */
  readonly after?: Position | undefined;
}

export interface ReducedStream<S> {
  readonly value: S;
  /** Why it has ended, or could not begin, if so. */
  readonly error: Error | null;
}

/**
 * What a reducer makes of one or more streams; reads nothing for null or an empty list. Starts anew when the client or the streams change.
 *
 * @example
 * const { value: total } = useStreamReducer<Order, number>(client, 'orders', {
 *   after: 'start',
 *   initial: 0,
 *   reduce: (sum, item) => (item.kind === 'event' ? sum + item.data.amount : item.kind === 'reset' ? 0 : sum),
 * });
 */
export function useStreamReducer<T = unknown, S = unknown>(
  client: Client,
  streams: StreamNames,
  options: ReducerOptions<T, S>,
): ReducedStream<S> {
  const names = JSON.stringify(streams);
  const store = useMemo(
    () =>
      createStreamStore<T, S>(client, JSON.parse(names) as StreamNames, {
        after: options.after,
        initial: options.initial,
        reduce: (value, items) => items.reduce(options.reduce, value),
      }),
    // What else is given is taken once: a reducer written inline is another one at each rendering.
    [client, names],
  );
  return useSyncExternalStore(store.subscribe, store.get, store.get);
}
