// Who listens to what: channels and their handlers, counted, and which LISTEN and UNLISTEN follow from a change.
// Pure: knows nothing of connections. A channel is wanted while it has a handler.

export interface ChannelHandler {
  /** A notification; `processId` is the backend that sent it. A hint, never to be believed. */
  message(payload: string, processId: number): void;
  /** A new session listens: anything may have been missed before it. */
  gap(generation: number): void;
}

export class Hub {
  readonly #handlers = new Map<string, Set<ChannelHandler>>();

  get channels(): readonly string[] {
    return [...this.#handlers.keys()];
  }

  /** True when the channel is wanted now and was not before. */
  add(channel: string, handler: ChannelHandler): boolean {
    const handlers = this.#handlers.get(channel);
    if (handlers) {
      handlers.add(handler);
      return false;
    }
    this.#handlers.set(channel, new Set([handler]));
    return true;
  }

  /** True when the channel was wanted before and is not now. */
  remove(channel: string, handler: ChannelHandler): boolean {
    const handlers = this.#handlers.get(channel);
    if (!handlers?.delete(handler) || handlers.size > 0) return false;
    this.#handlers.delete(channel);
    return true;
  }

  message(channel: string, payload: string, processId: number): void {
    for (const handler of this.#handlers.get(channel) ?? []) handler.message(payload, processId);
  }

  gap(generation: number): void {
    for (const handlers of this.#handlers.values()) for (const handler of handlers) handler.gap(generation);
  }
}
