// One stream of a connection: takes its batches from the tail, knows how far the connection has got in it, and goes on
// after a loss. What is written, and when there is room, is its session's business.
import { encodePosition, type CursorPosition } from '../protocol/cursor.ts';
import type { ParsedPosition } from '../protocol/position.ts';
import type { Batch } from '../tail/entry.ts';
import type { Loss } from '../tail/loss.ts';
import type { Sink } from '../tail/subscriber.ts';
import type { Opened, Subscription } from '../tail/subscription.ts';
import type { Tails } from '../tail/tails.ts';
import { SluiceError } from '../util/errors.ts';

/** The connection, as its legs need it. */
export interface LegOwner {
  /** Takes the batch, and moves the leg. False: the connection is full. */
  take(leg: Leg, batch: Batch): boolean;
  /** History is gone: to be told before anything that follows. */
  lost(loss: Loss): void;
  /** After a loss it stands where it goes on from. */
  restarted(leg: Leg): void;
  /** No more comes: the stream is gone, or Sluice is closing and the client comes back later. */
  ended(why: 'stream' | 'shutdown'): void;
  failed(error: unknown): void;
}

export class Leg implements Sink {
  readonly stream: string;
  readonly #owner: LegOwner;
  #subscription: Subscription | undefined;
  #place: CursorPosition | undefined;
  #position: string | undefined;
  #over = false;

  constructor(stream: string, owner: LegOwner) {
    this.stream = stream;
    this.#owner = owner;
  }

  /** How it opened. Only after `subscribe`. */
  get opened(): Opened | undefined {
    return this.#subscription?.opened;
  }

  /** How many events there were beyond where it started. Only after `subscribe`. */
  get behind(): number {
    const opened = this.opened;
    if (!opened) return 0;
    return opened.kind === 'ok'
      ? Number(opened.head - opened.place.offset)
      : Number(opened.loss.head.offset - opened.loss.resume.offset);
  }

  /** Its part of the connection's cursor: what the client has got so far. */
  get position(): string {
    return (this.#position ??= this.#place ? encodePosition(this.#place) : '');
  }

  /** @throws SluiceError stream_not_found, cursor_invalid, closed */
  async subscribe(tails: Tails, after: ParsedPosition, signal?: AbortSignal): Promise<void> {
    const subscription = await tails.subscribe(this.stream, after, this, signal);
    if (this.#over) return subscription.close();
    this.#subscription = subscription;
    const { opened } = subscription;
    this.moveTo(opened.kind === 'ok' ? opened.place : opened.loss.resume);
  }

  /** The client gets to know with the next id that it has come so far. */
  moveTo(place: CursorPosition): void {
    this.#place = place;
    this.#position = undefined;
  }

  resume(): void {
    this.#subscription?.resume();
  }

  write(batch: Batch): boolean {
    return this.#owner.take(this, batch);
  }

  lost(loss: Loss): void {
    this.moveTo(loss.resume);
    this.#owner.lost(loss);
    this.restart(loss);
  }

  /** Goes on from where the loss says. */
  restart(loss: Loss): void {
    const subscription = this.#subscription;
    if (this.#over || !subscription) return;
    void subscription.restart(loss.resume).then(
      // Closed meanwhile: what `close` let go of then, the restart has taken hold of again.
      () => (this.#over ? subscription.close() : this.#owner.restarted(this)),
      (error: unknown) => this.ended(error),
    );
  }

  ended(error: unknown): void {
    const code = error instanceof SluiceError ? error.code : undefined;
    if (error === undefined || code === 'closed') this.#owner.ended('shutdown');
    else if (code === 'stream_not_found') this.#owner.ended('stream');
    else this.#owner.failed(error);
  }

  close(): void {
    this.#over = true;
    this.#subscription?.close();
  }
}
