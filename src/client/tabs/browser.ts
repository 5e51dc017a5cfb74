// What sharing needs of a browser, by shape: Web Locks and BroadcastChannel, and what they are when they are not there.

export interface Locks {
  /** Holds the lock until the callback's promise settles. Rejects when it is stolen. */
  request(name: string, options: LockWish, callback: () => Promise<void>): Promise<void>;
}
export interface LockWish {
  readonly signal?: AbortSignal;
  readonly steal?: boolean;
}

export interface Channel {
  postMessage(message: unknown): void;
  addEventListener(type: 'message', listener: (event: { readonly data: unknown }) => void): void;
  close(): void;
}

export interface Browser {
  readonly locks: Locks;
  readonly open: (name: string) => Channel;
  /** An id that is never used again. */
  readonly createId: () => string;
}

/** Undefined outside browsers, and on pages that did not come over HTTPS. */
export function findBrowser(): Browser | undefined {
  const { navigator, window, crypto, BroadcastChannel } = globalThis as unknown as {
    readonly navigator?: { readonly locks?: Locks };
    readonly window?: unknown;
    readonly crypto?: { randomUUID?(): string };
    readonly BroadcastChannel?: new (name: string) => Channel;
  };
  const locks = navigator?.locks;
  if (!window || !locks || !BroadcastChannel || !crypto?.randomUUID) return undefined;
  return { locks, open: (name) => new BroadcastChannel(name), createId: () => crypto.randomUUID!() };
}
