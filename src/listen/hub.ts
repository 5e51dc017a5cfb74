// Who listens to what: channels and their handlers, counted, and which LISTEN and UNLISTEN follow from that for the
// session there is. Pure: knows nothing of connections. A channel is wanted while it has a handler; it stays in force
// a while after nobody wants it any more, so that one who comes back costs nothing.
import type { Message } from './inbox.ts';

export interface ChannelHandler {
  /** A notification. A hint, never to be believed. */
  message(message: Message): void;
  /** A new session listens: anything may have been missed before it. */
  gap(generation: number): void;
  /** The server will not listen to this channel; nothing more comes. */
  refused?(error: unknown): void;
}

export class Hub {
  readonly #handlers = new Map<string, Set<ChannelHandler>>();
  /** The channels for which the session's LISTEN is in force. */
  #inForce = new Set<string>();
  /** Wanted and not in force. */
  #missing = new Set<string>();
  /** In force and not wanted. */
  #unwanted = new Set<string>();

  /** The channels that have a handler. */
  get channels(): readonly string[] {
    return [...this.#handlers.keys()];
  }

  add(channel: string, handler: ChannelHandler): void {
    const handlers = this.#handlers.get(channel);
    if (handlers) {
      handlers.add(handler);
      return;
    }
    this.#handlers.set(channel, new Set([handler]));
    if (!this.#unwanted.delete(channel)) this.#missing.add(channel);
  }

  remove(channel: string, handler: ChannelHandler): void {
    const handlers = this.#handlers.get(channel);
    if (handlers?.delete(handler) && handlers.size === 0) this.#forget(channel);
  }

  message(channel: string, payload: string, processId: number): void {
    const handlers = this.#handlers.get(channel);
    if (!handlers) return;
    const message: Message = { kind: 'message', payload, processId };
    if (handlers.size > 1) Object.freeze(message); // what one of them does to it, the others must not see
    for (const handler of handlers) handler.message(message);
  }

  gap(generation: number): void {
    for (const handlers of this.#handlers.values()) for (const handler of handlers) handler.gap(generation);
  }

  /** The channel's handlers hear that it was refused, and are gone. */
  refuse(channel: string, error: unknown): void {
    const handlers = this.#handlers.get(channel) ?? [];
    this.#forget(channel);
    for (const handler of handlers) handler.refused?.(error);
  }

  wants(channel: string): boolean {
    return this.#handlers.has(channel);
  }

  isInForce(channel: string): boolean {
    return this.#inForce.has(channel);
  }

  /** Channels that are wanted and not in force, `count` at most. */
  missing(count: number): string[] {
    return firstOf(this.#missing, count);
  }

  /** LISTEN is in force for these. */
  listening(channels: readonly string[]): void {
    for (const channel of channels) {
      this.#inForce.add(channel);
      this.#missing.delete(channel);
      if (!this.#handlers.has(channel)) this.#unwanted.add(channel);
    }
  }

  /** Channels in force that nobody wants, `count` at most; from now on they count as not in force. */
  takeUnwanted(count: number): string[] {
    const channels = firstOf(this.#unwanted, count);
    for (const channel of channels) {
      this.#unwanted.delete(channel);
      this.#inForce.delete(channel);
    }
    return channels;
  }

  /** There is another session, which listens to nothing yet. */
  restart(): void {
    this.#inForce = new Set();
    this.#unwanted = new Set();
    this.#missing = new Set(this.#handlers.keys());
  }

  #forget(channel: string): void {
    this.#handlers.delete(channel);
    this.#missing.delete(channel);
    if (this.#inForce.has(channel)) this.#unwanted.add(channel);
  }
}

function firstOf(channels: ReadonlySet<string>, count: number): string[] {
  const first: string[] = [];
  for (const channel of channels) {
    if (first.length === count) break;
    first.push(channel);
  }
  return first;
}
