// Who listens to what: channels and their handlers, counted, and which LISTEN and UNLISTEN follow from that for the
// session there is. Pure: knows nothing of connections. A channel is wanted while it has a handler; it stays in force
// a while after nobody wants it any more, so that one who comes back costs nothing.
import { Hearers, type ChannelHandler } from './hearers.ts';

export class Hub {
  readonly #hearers = new Map<string, Hearers>();
  /** The channels for which the session's LISTEN is in force. */
  #inForce = new Set<string>();
  /** Wanted and not in force. */
  #missing = new Set<string>();
  /** In force and not wanted. */
  #unwanted = new Set<string>();

  /** The channels that have a handler. */
  get channels(): readonly string[] {
    return [...this.#hearers.keys()];
  }

  add(channel: string, handler: ChannelHandler): void {
    let hearers = this.#hearers.get(channel);
    if (!hearers) {
      hearers = new Hearers();
      this.#hearers.set(channel, hearers);
      if (!this.#unwanted.delete(channel)) this.#missing.add(channel);
    }
    hearers.add(handler);
  }

  remove(channel: string, handler: ChannelHandler): void {
    const hearers = this.#hearers.get(channel);
    hearers?.remove(handler);
    if (hearers?.size === 0) this.#forget(channel);
  }

  message(channel: string, payload: string, processId: number): void {
    this.#hearers.get(channel)?.message({ kind: 'message', payload, processId });
  }

  gap(generation: number): void {
    for (const hearers of Array.from(this.#hearers.values())) hearers.gap(generation);
  }

  /** The channel's handlers hear that it was refused, and are gone. */
  refuse(channel: string, error: unknown): void {
    const hearers = this.#hearers.get(channel);
    this.#forget(channel);
    hearers?.refuse(error);
  }

  wants(channel: string): boolean {
    return this.#hearers.has(channel);
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
      if (!this.#hearers.has(channel)) this.#unwanted.add(channel);
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
    this.#missing = new Set(this.#hearers.keys());
  }

  #forget(channel: string): void {
    this.#hearers.delete(channel);
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
