// One event-stream connection: the opening frames, the events of its streams as they come, control frames, heartbeats,
// and its end. Cursors and a socket, never a queue: while the socket is full nothing is taken from the tails, and a
// socket that stays full past its deadline is dropped; its client resumes with its last id.
//
// The events of one stream alone go out as one buffer that all its connections share. With several, each event is a
// shared body and an id line of the connection's own: a cursor that says how far it has got in every one of them.
import { randomUUID } from 'node:crypto';
import { encodeComment, encodeEvent, encodeIdOnly, encodeRetry } from '../protocol/frames.ts';
import type { ParsedPosition } from '../protocol/position.ts';
import { CONTROL_EVENTS } from '../protocol/wire.ts';
import { encodePosition } from '../protocol/cursor.ts';
import type { Batch, FrameFormat, Frames } from '../tail/entry.ts';
import type { Loss } from '../tail/loss.ts';
import type { Tails } from '../tail/tails.ts';
import type { Attending, Presence, Seat } from '../presence/presence.ts';
import type { PresenceSink } from '../presence/rosters.ts';
import { wallClockMs } from '../util/clock.ts';
import { report } from '../util/diagnostics.ts';
import type { LoggerLike } from '../util/logger.ts';
import type { Viewer } from './audience.ts';
import { Backlog } from './backlog.ts';
import type { EndReason } from './end-reason.ts';
import type { EventFilter } from './filters.ts';
import { Leg, type LegOwner } from './leg.ts';
import type { Stats } from './stats.ts';
import type { Transport, TransportEvents } from './transport.ts';

/** Ephemerals kept for a connection that is full, in bytes; the oldest are dropped. */
const MAX_BACKLOG_BYTES = 256 * 1024;
const HEARTBEAT = Buffer.from(encodeComment('keep-alive'));

export interface SessionOptions {
  readonly streams: readonly string[];
  readonly format: FrameFormat;
  readonly retryMs: number;
  /** A full socket may take this long to take more, in milliseconds. */
  readonly drainTimeoutMs: number;
  /** What of a batch its client may see ... */
  readonly filter: EventFilter;
  /** ... by the grant it has. */
  readonly viewer: Viewer;
  /** When that grant ends. */
  readonly expiresAt?: Date | undefined;
  readonly logger: LoggerLike;
  readonly stats?: Stats | undefined;
}

export class EventSession implements TransportEvents, LegOwner, PresenceSink {
  readonly id: string = randomUUID();
  /** It is fixed where it starts; until then the database is asked, which is not the client's doing. */
  begun = false;
  readonly #options: SessionOptions;
  readonly #legs: readonly Leg[];
  #transport: Transport | undefined;
  #fullSince: number | undefined;
  #firstToResume = 0;
  #seat: Seat | undefined;
  #backlog: Backlog | undefined; // most connections are never full
  #idBehind = false; // the client's id does not say yet that it has come past what is hidden from it
  #quiet = true; // nothing written since the last heartbeat
  #over = false;
  #countEnd: ((reason: EndReason) => void) | undefined;
  #onEnd: readonly (() => void)[] = [];

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#legs = options.streams.map((stream) => new Leg(stream, this));
  }

  get over(): boolean {
    return this.#over;
  }

  /** Calls back when the session has ended, at once if it has. */
  onceEnded(told: () => void): void {
    if (this.#over) told();
    else this.#onEnd = this.#onEnd.concat(told); // exactly as long as need be, for each of thousands
  }

  /** Fixes where the session starts; nothing is sent yet. @throws SluiceError stream_not_found, cursor_invalid */
  async subscribe(
    tails: Tails,
    starts: ReadonlyMap<string, ParsedPosition>,
    signal?: AbortSignal,
  ): Promise<void> {
    const opening = this.#legs.map(async (leg) =>
      leg.subscribe(tails, starts.get(leg.stream) ?? { kind: 'end' }, signal),
    );
    const failed = (await Promise.allSettled(opening)).find((each) => each.status === 'rejected');
    if (failed) throw failed.reason;
    this.begun = true;
  }

  /** Sends the opening frames, then events as they come. */
  start(open: (events: TransportEvents) => Transport): void {
    if (this.#over) return open({ drained: () => {}, closed: () => {} }).end(this.#options.drainTimeoutMs);
    this.#countEnd = this.#options.stats?.opened(this.#legs);
    this.#transport = open(this);
    this.#fullSince = undefined;
    const { streams, retryMs } = this.#options;
    report('sluice:sse.opened', () => ({ connectionId: this.id, streams }));
    const losses = this.#legs.flatMap(({ opened }) => (opened?.kind === 'lost' ? [opened.loss] : []));
    // What is gone is said before the id that stands beyond it: a connection lost in between comes back before it.
    this.#send(encodeRetry(retryMs) + this.#openFrame() + losses.map(lossFrame).join('') + this.#idFrame());
    for (const leg of this.#legs) if (leg.opened?.kind === 'lost') leg.restart(leg.opened.loss);
    this.#resumeIfRoom();
  }

  take(leg: Leg, batch: Batch): boolean {
    const { filter, viewer } = this.#options;
    const visible = filter(batch, viewer, this.id);
    const bytes = visible && this.#bytes(leg, visible);
    if (bytes) this.#options.stats?.delivered(leg.stream, visible, bytes.length);
    leg.moveTo(batch.last.position);
    this.#idBehind = visible?.entries.at(-1) !== batch.last;
    return bytes ? this.#put(bytes) : !this.#over && this.#fullSince === undefined;
  }

  lost(loss: Loss): void {
    this.#idBehind = false;
    this.#send(lossFrame(loss) + this.#idFrame());
  }

  restarted(leg: Leg): void {
    if (this.#fullSince === undefined) leg.resume();
  }

  ended(why: 'stream' | 'shutdown'): void {
    this.end(why, why === 'shutdown' ? this.#options.retryMs : undefined);
  }

  failed(error: unknown): void {
    if (this.#over) return;
    this.#options.logger.error({ error, connectionId: this.id }, 'an event stream could not go on');
    report('sluice:background.failed', () => ({ where: 'event stream', error }));
    this.end('failed');
  }

  drained(): void {
    this.#fullSince = undefined;
    this.#resumeIfRoom();
  }

  /** Frames without an id. Before the opening frames, and in excess while the connection is full, they are dropped. */
  ephemeral(frames: Buffer): void {
    if (this.#over || !this.#transport) return;
    if (this.#fullSince === undefined) return void this.#put(frames);
    this.#backlog ??= new Backlog(MAX_BACKLOG_BYTES);
    const ephemerals = this.#backlog.add(frames);
    if (ephemerals > 0) report('sluice:sse.dropped', () => ({ connectionId: this.id, ephemerals }));
  }

  /** Takes part in the presence of its streams until it ends. */
  attend(presence: Presence, member: Attending['member']): void {
    const seat = presence.enter({
      connection: this.id,
      streams: this.#options.streams,
      member,
      sink: this,
    });
    this.#seat = seat;
    this.onceEnded(() => seat.leave());
  }

  /** Frames without an id; taken while there is room, so that none is left out unnoticed. */
  presence(frames: Buffer): boolean {
    if (this.#over || !this.#transport || this.#fullSince !== undefined) return false;
    this.#put(frames);
    return true;
  }

  closed(): void {
    this.#finish('client');
  }

  /** Once per heartbeat interval: drops a socket that has been full too long, writes to one that was idle. */
  tick(nowMs: number): void {
    if (!this.begun) return;
    // The timer for that stands still while a machine sleeps, and does not know that a clock was set.
    const { expiresAt } = this.#options;
    if (expiresAt && expiresAt.getTime() <= wallClockMs()) return this.end('expired');
    if (!this.#transport) this.#fullSince ??= nowMs; // its host has not read the response yet
    if (this.#fullSince !== undefined) {
      if (nowMs - this.#fullSince < this.#options.drainTimeoutMs) return;
      this.#finish('slow');
      this.#transport?.destroy();
      return;
    }
    if (this.#idBehind) this.#catchUpId();
    else if (this.#quiet) this.#put(HEARTBEAT);
    this.#quiet = true;
  }

  /** Ends the session; with `retryMs` the client is told when to come back. */
  end(reason: EndReason, retryMs?: number): void {
    if (this.#over) return;
    this.#catchUpId();
    if (retryMs !== undefined) {
      const data = JSON.stringify({ retryMs: Math.round(retryMs) });
      this.#send(encodeRetry(retryMs) + encodeEvent({ event: CONTROL_EVENTS.shutdown, data }));
    }
    this.#finish(reason);
    this.#transport?.end(this.#options.drainTimeoutMs);
  }

  #openFrame(): string {
    const streams = this.#legs.flatMap(({ stream: name, opened }) => {
      if (!opened) return [];
      const [head, oldest] =
        opened.kind === 'ok'
          ? [opened.head, opened.oldest]
          : [opened.loss.head.offset, opened.loss.resume.offset + 1n];
      return [{ name, head: String(head), oldest: String(oldest) }];
    });
    return encodeEvent({
      event: CONTROL_EVENTS.open,
      data: JSON.stringify({ connectionId: this.id, streams }),
    });
  }

  #idFrame(): string {
    return encodeIdOnly(this.#legs.map(({ position }) => position).join('.'));
  }

  // So that a resume neither reads nor judges again what is hidden. Not with each batch: a heartbeat is soon enough.
  #catchUpId(): void {
    if (this.#idBehind) this.#send(this.#idFrame());
    this.#idBehind = false;
  }

  #bytes(leg: Leg, frames: Frames): Buffer {
    if (this.#legs.length === 1) return frames.bytes(this.#options.format);
    const [before, after] = this.#around(leg);
    const parts = frames.entries.flatMap(({ body, position }) => [
      body,
      Buffer.from(encodeIdOnly(before + encodePosition(position) + after)),
    ]);
    return Buffer.concat(parts);
  }

  /** What stands before and after a leg's position in the connection's cursor. */
  #around(leg: Leg): [string, string] {
    const index = this.#legs.indexOf(leg);
    const before = this.#legs.slice(0, index).map(({ position }) => `${position}.`);
    const after = this.#legs.slice(index + 1).map(({ position }) => `.${position}`);
    return [before.join(''), after.join('')];
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

  // Another one begins each time, so that a busy stream does not keep the others from a socket that is often full.
  #resumeIfRoom(): void {
    const count = this.#legs.length;
    for (let index = 0; index < count && this.#fullSince === undefined && !this.#over; index += 1) {
      this.#legs[(this.#firstToResume + index) % count]?.resume();
    }
    this.#firstToResume = (this.#firstToResume + 1) % count;
    if (this.#fullSince !== undefined) return;
    const kept = this.#backlog?.take(); // after the events, so that no flood of ephemerals keeps those back
    if (kept) this.#put(kept);
    this.#seat?.resume();
  }

  #finish(reason: EndReason): void {
    if (this.#over) return;
    this.#over = true;
    for (const leg of this.#legs) leg.close();
    this.#countEnd?.(reason);
    report('sluice:sse.closed', () => ({ connectionId: this.id, reason }));
    for (const told of this.#onEnd) told();
  }
}

/** Says what is gone and where it goes on. It carries no id itself: the one that follows does. */
const lossFrame = ({ kind, reason, stream, requested, resume, head }: Loss): string =>
  encodeEvent({
    event: CONTROL_EVENTS[kind],
    data: JSON.stringify({
      stream,
      reason,
      requested: String(requested),
      oldest: String(resume.offset + 1n),
      head: String(head.offset),
      resumedAt: encodePosition(resume),
    }),
  });
