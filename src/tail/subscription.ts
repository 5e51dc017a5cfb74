// One reader's hold on a tail: where it opened, and how it goes on after a loss.
import type { CursorPosition } from '../protocol/cursor.ts';
import type { Loss } from './loss.ts';
import { Subscriber, type Sink } from './subscriber.ts';
import type { Tail } from './tail.ts';

export type Opened =
  | { readonly kind: 'ok'; readonly place: CursorPosition; readonly head: bigint; readonly oldest: bigint }
  | { readonly kind: 'lost'; readonly loss: Loss };

export type Reopened =
  | { readonly kind: 'ok'; readonly place: CursorPosition; readonly tail: Tail }
  | { readonly kind: 'lost'; readonly loss: Loss };

/** Where the tails come from, and who closes those that nobody reads. */
export interface TailKeeper {
  reopen(stream: string, place: CursorPosition): Promise<Reopened>;
  left(tail: Tail): void;
}

export class Subscription {
  /** How it opened: at `place`, or not, and then `restart` goes on from `loss.resume`. */
  readonly opened: Opened;
  readonly #keeper: TailKeeper;
  readonly #stream: string;
  readonly #subscriber: Subscriber;
  #tail: Tail | undefined;

  constructor(
    keeper: TailKeeper,
    { stream, sink, opened }: { readonly stream: string; readonly sink: Sink; readonly opened: Opened },
    tail?: Tail,
  ) {
    this.opened = opened;
    this.#keeper = keeper;
    this.#stream = stream;
    this.#subscriber = new Subscriber(opened.kind === 'ok' ? opened.place : opened.loss.resume, sink);
    this.#tail = tail;
    tail?.attach(this.#subscriber);
  }

  get position(): CursorPosition {
    return this.#subscriber.position;
  }

  /** The sink takes more. Nothing is delivered before the first call. */
  resume(): void {
    this.#tail?.resume(this.#subscriber);
  }

  /** Moves to another place, after a loss; `resume` then delivers from there. */
  async restart(place: CursorPosition): Promise<void> {
    this.close();
    const subscriber = this.#subscriber;
    const reopened = await this.#keeper.reopen(this.#stream, place);
    if (reopened.kind === 'lost') return subscriber.sink.lost(reopened.loss);
    this.#tail = reopened.tail;
    subscriber.position = reopened.place;
    subscriber.closed = false;
    subscriber.ready = false;
    reopened.tail.attach(subscriber);
  }

  close(): void {
    const tail = this.#tail;
    if (!tail) return;
    this.#tail = undefined;
    tail.detach(this.#subscriber);
    this.#keeper.left(tail);
  }
}
