// `<sluice-stream>`: a subscription as an element. Its life is that of the element in the document; what comes is told as
// events that bubble. The class is made when it is asked for, since on a server there is nothing to extend.
import { createClient, type Client } from '../client/client.ts';
import type { ClientOptions } from '../client/settings.ts';

export interface ElementOptions {
  /** Default: `sluice-stream`. */
  readonly name?: string | undefined;
  /** Read through this client, whatever `src` says. Default: one client for each `src`, shared by its elements. */
  readonly client?: Client | undefined;
  /** For the clients made from `src`: headers, sharing across tabs and so on. */
  readonly options?: Omit<ClientOptions, 'url'> | undefined;
}

/**
 * Defines `<sluice-stream stream="orders" after="…" src="/v1/events">`; for several streams, `streams` is a JSON array. It
 * dispatches, bubbling: `sluice-event`, `sluice-gap`, `sluice-reset`, `sluice-broadcast` with the item as `detail`,
 * `sluice-status` with the status, `sluice-error` with the error that ended it. The attribute `state` says how the
 * connection is, for style sheets. Does nothing where it is defined already, or where there are no elements.
 *
 * @example
 * defineStreamElement();
 * document.addEventListener('sluice-event', ({ detail }) => show(detail.data));
 */
export function defineStreamElement({ name = 'sluice-stream', client, options }: ElementOptions = {}): void {
  if (typeof customElements === 'undefined' || customElements.get(name)) return;
  const clients = new Map<string, Client>();
  const clientFor = (url: string): Client => {
    const known = client ?? clients.get(url);
    if (known) return known;
    const made = createClient({ ...options, url });
    clients.set(url, made);
    return made;
  };
  customElements.define(name, elementClass(clientFor));
}

const elementClass = (clientFor: (url: string) => Client): CustomElementConstructor =>
  class extends HTMLElement {
    static readonly observedAttributes: readonly string[] = ['src', 'stream', 'streams', 'after'];
    #ended: AbortController | undefined;
    #isRestarting = false;
    /** Where it goes on when it is put back into the document. */
    #cursor: string | undefined;

    connectedCallback(): void {
      this.#restart();
    }
    disconnectedCallback(): void {
      this.#restart();
    }
    attributeChangedCallback(_: string, before: string | null, value: string | null): void {
      if (value === before) return; // said again, and nothing else: it goes on where it stands
      this.#cursor = undefined;
      this.#restart();
    }

    // Attributes change one by one, and an element that is moved leaves and enters: only what is left of it counts.
    #restart(): void {
      this.#ended?.abort(); // at once: what still comes of it must not be taken for the next
      if (this.#isRestarting) return;
      this.#isRestarting = true;
      queueMicrotask(() => {
        this.#isRestarting = false;
        if (!this.isConnected) return;
        const { signal } = (this.#ended = new AbortController());
        this.#read(signal).catch((error: unknown) => this.#tell('error', error));
      });
    }

    async #read(signal: AbortSignal): Promise<void> {
      const several = this.getAttribute('streams');
      const streams = several ? (JSON.parse(several) as string[]) : this.getAttribute('stream');
      if (!streams) return;
      const client = clientFor(this.getAttribute('src') ?? '/v1/events');
      const { status } = client;
      const show = (): void => {
        this.setAttribute('state', status.get().state);
        this.#tell('status', status.get());
      };
      signal.addEventListener('abort', status.subscribe(show));
      show();
      const after = this.#cursor ?? this.getAttribute('after') ?? 'end';
      const subscription = client.subscribe(streams, { after, signal });
      subscription.ready.then(
        () => signal.aborted || (this.#cursor ??= subscription.cursor),
        () => {},
      );
      for await (const item of subscription) {
        if (signal.aborted) return;
        // One that says too little takes nothing back: what came since comes again, and nothing is left out.
        if ('cursor' in item) this.#cursor = item.cursor ?? this.#cursor;
        this.#tell(item.kind, item);
      }
    }

    #tell(kind: string, detail: unknown): void {
      this.dispatchEvent(new CustomEvent(`sluice-${kind}`, { detail, bubbles: true, composed: true }));
    }
  };
