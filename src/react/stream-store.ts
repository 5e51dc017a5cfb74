// What a component has made of a stream so far, as a store for useSyncExternalStore. It reads while somebody watches it.
// Watched again, it goes on where it stood: strict mode and hidden subtrees lose and repeat nothing. Does nothing before
// it is first watched, so it can be made while rendering, on a server too.
import type { Client, SubscribeOptions } from '../client/client.ts';
import type { StreamItem } from '../client/item.ts';
import type { Subscription } from '../client/subscriber.ts';

export interface StreamState<S> {
  readonly value: S;
  /** What ended it: refused for good, thrown by the reducer, or something that cannot be asked for. */
  readonly error: Error | null;
}

export interface StreamStore<S> {
  readonly get: () => StreamState<S>;
  readonly subscribe: (listener: () => void) => () => void;
}

export interface StoreOptions<T, S> extends Pick<SubscribeOptions, 'after' | 'presence'> {
  readonly initial: S;
  readonly reduce: (value: S, items: readonly StreamItem<T>[]) => S;
}

/** Null, or none in a list: nothing is read. */
export type StreamNames = string | readonly string[] | null;

export function createStreamStore<T, S>(
  client: Client,
  streams: StreamNames,
  { initial, reduce, after: start, presence }: StoreOptions<T, S>,
): StreamStore<S> {
  const listeners = new Set<() => void>();
  let state: StreamState<S> = { value: initial, error: null };
  let after = start;
  let running: Subscription<T> | undefined;

  const set = (next: StreamState<S>): void => {
    if (next.value === state.value && next.error === state.error) return;
    state = next;
    for (const listener of listeners) listener();
  };
  const read = async (subscription: Subscription<T>): Promise<void> => {
    try {
      for await (const items of subscription.batches()) {
        // A batch that was under way when nobody watched any more comes again to the next one who does.
        if (running !== subscription) return;
        const value = reduce(state.value, items);
        after = subscription.cursor ?? after;
        set({ value, error: null });
      }
    } catch (error) {
      if (running === subscription) set({ ...state, error: error as Error });
    }
  };
  const begin = (names: string | readonly string[]): void => {
    const own = client.subscribe<T>(names, { after, presence });
    running = own;
    set({ ...state, error: null }); // why it ended the last time is no reason any more
    // Where it began, should it be left before anything comes; who leaves has read on from there all the same.
    own.ready.then(
      () => (after = (running === own && own.cursor) || after),
      () => {},
    );
    void read(own);
  };
  return {
    get: () => state,
    subscribe: (listener) => {
      listeners.add(listener);
      if (!running && streams?.length) {
        try {
          begin(streams);
        } catch (error) {
          // Such as a cursor that a page kept and that is none: thrown here it would take the whole page down.
          set({ ...state, error: error as Error });
        }
      }
      return () => {
        listeners.delete(listener);
        if (listeners.size > 0) return;
        const ended = running;
        running = undefined;
        ended?.close();
      };
    },
  };
}
