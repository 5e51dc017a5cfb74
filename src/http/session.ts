// One event-stream connection: the opening frames, events as they come, control frames, heartbeats, and its end. A
// cursor and a socket, never a queue: while the socket is full nothing is taken from the tail, and a socket that stays
// full past its deadline is dropped; its client resumes with its last id.
import { randomUUID } from 'node:crypto';
import { encodePosition, type CursorPosition } from '../protocol/cursor.ts';
import { encodeComment, encodeEvent, encodeIdOnly, encodeRetry } from '../protocol/frames.ts';
import type { ParsedPosition } from '../protocol/position.ts';
import { CONTROL_EVENTS } from '../protocol/wire.ts';
import type { Batch, FrameFormat } from '../tail/entry.ts';
import type { Loss } from '../tail/loss.ts';
import type { Sink } from '../tail/subscriber.ts';
import type { Opened, Subscription, Tails } from '../tail/tails.ts';
import { report } from '../util/diagnostics.ts';
import { SluiceError } from '../util/errors.ts';
import type { LoggerLike } from '../util/logger.ts';
import type { Transport, TransportEvents } from './transport.ts';

const HEARTBEAT = Buffer.from(encodeComment('keep-alive'));

export interface SessionOptions {
  readonly stream: string;
  readonly format: FrameFormat;
  readonly retryMs: number;
  /** A full socket may take this long to take more, in milliseconds. */
  readonly drainTimeoutMs: number;
  readonly logger: LoggerLike;
}

export type EndReason = 'client' | 'slow' | 'shutdown' | 'expired' | 'revoked' | 'stream' | 'failed';

export class EventSession implements Sink, TransportEvents {
  readonly id: string = randomUUID();
  readonly #options: SessionOptions;
  #transport: Transport | undefined;
  #subscription: Subscription | undefined;
  #fullSince: number | undefined;
  #quiet = true; // nothing written since the last heartbeat
  #over = false;
  readonly #onEnd: (() => void)[] = [];

  constructor(options: SessionOptions) {
    this.#options = options;
  }

  get over(): boolean {
    return this.#over;
  }

  /** Calls back when the session has ended, at once if it has. */
  onceEnded(told: () => void): void {
    if (this.#over) told();
    else this.#onEnd.push(told);
  }

  /** Fixes where the session starts; nothing is sent yet. @throws SluiceError stream_not_found, cursor_invalid */
  async subscribe(tails: Tails, after: ParsedPosition): Promise<void> {
    const subscription = await tails.subscribe(this.#options.stream, after, this);
    if (this.#over) return subscription.close();
    this.#subscription = subscription;
  }

  /** Sends the opening frames, then events as they come. */
  start(open: (events: TransportEvents) => Transport): void {
    const subscription = this.#subscription;
    if (this.#over || !subscription)
      return open({ drained: () => {}, closed: () => {} }).end(this.#options.drainTimeoutMs);
    this.#transport = open(this);
    this.#fullSince = undefined;
    report('sluice:sse.opened', () => ({ connectionId: this.id, stream: this.#options.stream }));
    const { opened } = subscription;
    this.#send(
      encodeRetry(this.#options.retryMs) +
        this.#openFrame(opened) +
        (opened.kind === 'ok' ? idFrame(opened.place) : ''),
    );
    if (opened.kind === 'lost') this.lost(opened.loss);
    else this.#resumeIfRoom();
  }

  write(batch: Batch): boolean {
    return this.#put(batch.bytes(this.#options.format));
  }

  /** Says what is gone, where it goes on, and goes on there. The id follows the notice, which carries none itself. */
  lost(loss: Loss): void {
    const { kind, reason, stream, requested, resume, head } = loss;
    const data = {
      stream,
      reason,
      requested: String(requested),
      oldest: String(resume.offset + 1n),
      head: String(head.offset),
      resumedAt: encodePosition(resume),
    };
    this.#send(encodeEvent({ event: CONTROL_EVENTS[kind], data: JSON.stringify(data) }) + idFrame(resume));
    const subscription = this.#subscription;
    if (this.#over || !subscription) return;
    void subscription.restart(resume).then(
      // Ended meanwhile: what `close` let go of then, the restart has taken hold of again.
      () => (this.#over ? subscription.close() : this.#resumeIfRoom()),
      (error: unknown) => (isClosed(error) ? this.ended(undefined) : this.#fail(error)),
    );
  }

  /** Delivery is over: the stream is gone (an error says so), or Sluice is closing and the client comes back later. */
  ended(error: Error | undefined): void {
    if (error) this.end('stream');
    else this.end('shutdown', this.#options.retryMs);
  }

  drained(): void {
    this.#fullSince = undefined;
    this.#subscription?.resume();
  }

  closed(): void {
    this.#finish('client');
  }

  /** Once per heartbeat interval: drops a socket that has been full too long, writes to one that was idle. */
  tick(nowMs: number): void {
    if (!this.#transport) this.#fullSince ??= nowMs; // its host has not read the response yet
    if (this.#fullSince !== undefined) {
      if (nowMs - this.#fullSince < this.#options.drainTimeoutMs) return;
      this.#finish('slow');
      this.#transport?.destroy();
      return;
    }
    if (this.#quiet) this.#put(HEARTBEAT);
    this.#quiet = true;
  }

  /** Ends the session; with `retryMs` the client is told when to come back. */
  end(reason: EndReason, retryMs?: number): void {
    if (this.#over) return;
    if (retryMs !== undefined) {
      const data = JSON.stringify({ retryMs: Math.round(retryMs) });
      this.#send(encodeRetry(retryMs) + encodeEvent({ event: CONTROL_EVENTS.shutdown, data }));
    }
    this.#finish(reason);
    this.#transport?.end(this.#options.drainTimeoutMs);
  }

  #openFrame(opened: Opened): string {
    const [head, oldest] =
      opened.kind === 'ok'
        ? [opened.head, opened.oldest]
        : [opened.loss.head.offset, opened.loss.resume.offset + 1n];
    const streams = [{ name: this.#options.stream, head: String(head), oldest: String(oldest) }];
    return encodeEvent({
      event: CONTROL_EVENTS.open,
      data: JSON.stringify({ connectionId: this.id, streams }),
    });
  }

  #send(text: string): void {
    this.#put(Buffer.from(text));
  }

  #put(bytes: Buffer): boolean {
    if (this.#over || !this.#transport) return false;
    this.#quiet = false;
    const room = this.#transport.write(bytes);
    if (!room) this.#fullSince ??= performance.now();
    return room;
  }

  #resumeIfRoom(): void {
    if (this.#fullSince === undefined) this.#subscription?.resume();
  }

  #fail(error: unknown): void {
    this.#options.logger.error({ error, connectionId: this.id }, 'an event stream could not go on');
    report('sluice:background.failed', () => ({ where: 'event stream', error }));
    this.end('failed');
  }

  #finish(reason: EndReason): void {
    if (this.#over) return;
    this.#over = true;
    this.#subscription?.close();
    report('sluice:sse.closed', () => ({ connectionId: this.id, reason }));
    for (const told of this.#onEnd) told();
  }
}

const isClosed = (error: unknown): boolean => error instanceof SluiceError && error.code === 'closed';

const idFrame = (place: CursorPosition): string => encodeIdOnly(encodePosition(place));
