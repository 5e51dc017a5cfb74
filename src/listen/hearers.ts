// Those who hear one channel, told one after another. What one of them does when it is told changes nothing for the
// others, except what was meant to: who leaves meanwhile is not told any more, and who comes hears what comes next. Pure.
import type { Message } from './inbox.ts';

export interface ChannelHandler {
  /** A notification. A hint, never to be believed. */
  message(message: Message): void;
  /** A new session listens: anything may have been missed before it. */
  gap(generation: number): void;
  /** The server will not listen to this channel; nothing more comes. */
  refused?(error: unknown): void;
}

export class Hearers {
  readonly #handlers = new Set<ChannelHandler>();
  /** The same in a list, which is the fastest to go through, while nobody comes or leaves. */
  #list: readonly ChannelHandler[] | undefined;

  get size(): number {
    return this.#handlers.size;
  }

  add(handler: ChannelHandler): void {
    this.#handlers.add(handler);
    this.#list = undefined;
  }

  remove(handler: ChannelHandler): void {
    this.#handlers.delete(handler);
    this.#list = undefined;
  }

  message(message: Message): void {
    const list = (this.#list ??= [...this.#handlers]);
    if (list.length > 1) Object.freeze(message); // what one of them does to it, the others must not see
    for (const handler of list) {
      if (this.#list === list || this.#handlers.has(handler)) handler.message(message);
    }
  }

  gap(generation: number): void {
    this.#each((handler) => handler.gap(generation));
  }

  refuse(error: unknown): void {
    this.#each((handler) => handler.refused?.(error));
  }

  #each(tell: (handler: ChannelHandler) => void): void {
    for (const handler of Array.from(this.#handlers)) if (this.#handlers.has(handler)) tell(handler);
  }
}
