// What a browser tells a page about the network and about being seen. Elsewhere there is nothing to hear.

interface Target {
  addEventListener(type: string, listener: () => void): void;
  removeEventListener(type: string, listener: () => void): void;
}
interface Page {
  readonly document?: Target & { readonly visibilityState: string };
  readonly window?: Target;
}

export interface PageListener {
  readonly online: () => void;
  readonly offline: () => void;
  /** Seen again: from the background, from the back-forward cache, perhaps from sleep. */
  readonly seen: () => void;
}

/** Listens until the returned function is called. */
export function listenToPage({ online, offline, seen }: PageListener): () => void {
  const { window, document } = globalThis as Page;
  const ifVisible = (): void => {
    if (document?.visibilityState === 'visible') seen();
  };
  const all: [Target | undefined, string, () => void][] = [
    [window, 'online', online],
    [window, 'offline', offline],
    [window, 'pageshow', seen],
    [document, 'visibilitychange', ifVisible],
  ];
  for (const [target, type, listener] of all) target?.addEventListener(type, listener);
  return () => {
    for (const [target, type, listener] of all) target?.removeEventListener(type, listener);
  };
}
