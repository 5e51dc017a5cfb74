// A subscriber: a position in one stream and a sink. Never a queue: what its sink does not take stays in the window or
// the database. The tail moves it; the sink's owner resumes and closes it.
import type { CursorPosition } from '../protocol/cursor.ts';
import { asError } from '../util/errors.ts';
import type { Batch } from './entry.ts';
import type { Loss } from './loss.ts';

export interface Sink {
  /** Takes the batch, always. False: no more until `resume` is called. */
  write(batch: Batch): boolean;
  /** The history it stood on is gone. Delivery has stopped; `restart` goes on from `loss.resume`. */
  lost(loss: Loss): void;
  /** Delivery has ended for good: the stream was deleted, or Sluice was closed. */
  ended(error: Error | undefined): void;
}

export class Subscriber {
  readonly sink: Sink;
  position: CursorPosition;
  /** Whether the sink takes more; not before its owner has said so once. */
  ready = false;
  closed = false;
  /** A pump is under way for it (owned by the tail). */
  pumping = false;
  /** The tail's epoch in which its position was last known to be on the present history (owned by the tail). */
  epoch = 0;

  constructor(position: CursorPosition, sink: Sink) {
    this.position = position;
    this.sink = sink;
  }

  /** Hands over what of the batch it has not had; keeps position and readiness. A sink that fails ends alone. */
  deliver(batch: Batch): void {
    if (this.closed || batch.last.offset <= this.position.offset) return;
    const rest = batch.after(this.position.offset);
    this.position = batch.last.position;
    try {
      this.ready = this.sink.write(rest);
    } catch (error) {
      this.ready = false;
      this.sink.ended(asError(error));
    }
  }
}
