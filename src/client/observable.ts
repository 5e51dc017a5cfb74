// A value that can be read and watched. What it holds is replaced, never changed in place.

export interface Observable<T> {
  /** The value now: the same object until it changes. */
  readonly get: () => T;
  /** Calls back after every change, until the returned function is called. */
  readonly subscribe: (listener: () => void) => () => void;
}

export interface Source<T> extends Observable<T> {
  readonly set: (value: T) => void;
}

export function createSource<T>(value: T): Source<T> {
  const listeners = new Set<() => void>();
  return {
    get: () => value,
    set(next) {
      value = next;
      for (const listener of listeners) {
        try {
          listener();
        } catch (error) {
          // Whoever watches has no part in what is watched: it is reported, and breaks nothing.
          void Promise.reject(error);
        }
      }
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}
