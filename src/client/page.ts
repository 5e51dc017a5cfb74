// What a browser tells a page about the network and about being seen. Elsewhere there is nothing to hear.

interface Target {
  addEventListener(type: string, listener: () => void, options: { readonly signal: AbortSignal }): void;
}
interface Page {
  readonly document?: Target & { readonly visibilityState: string };
  readonly window?: Target;
}

/**
 * Listens until the returned function is called. `seen`: again, from the background, from the back-forward cache, perhaps
 * from sleep.
 */
export function listenToPage(online: () => void, offline: () => void, seen: () => void): () => void {
  const { window, document } = globalThis as Page;
  const controller = new AbortController();
  window?.addEventListener('online', online, controller);
  window?.addEventListener('offline', offline, controller);
  window?.addEventListener('pageshow', seen, controller);
  document?.addEventListener(
    'visibilitychange',
    () => document.visibilityState === 'visible' && seen(),
    controller,
  );
  return () => controller.abort();
}
