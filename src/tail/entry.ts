// Events in a tail's window, and batches of them on their way to subscribers. An event is encoded once per format,
// whoever it goes to; a batch is one buffer for one write, shared by all who get it.
import { encodePosition, type CursorPosition } from '../protocol/cursor.ts';
import { encodeBody, encodeEvent } from '../protocol/frames.ts';
import { typeProblem } from '../protocol/wire.ts';
import {
  envelopeText,
  toStreamEvent,
  type EventRecord,
  type StreamEvent,
  type StreamIdentity,
} from '../log/event.ts';

/** `envelope`: everything, for onmessage. `data`: the bare payload under the event's type. */
export type FrameFormat = 'envelope' | 'data';

/** What an entry costs beside its texts, and each buffer beside its bytes: estimates for the window's bound. */
const ENTRY_OVERHEAD = 200;
const BUFFER_OVERHEAD = 100;
/** Bytes of memory for a character of JSON, once it is parsed: a rough mean of small objects. */
const PARSED_BYTES = 4;

/** Roughly what an event holds in memory once all has been made of it: an entry, parsed, in a frame, in a batch's bytes. */
export const estimatedBytes = (record: EventRecord): number =>
  2 * ENTRY_OVERHEAD + 2 * BUFFER_OVERHEAD + lengthOf(record) * (PARSED_BYTES + 4);

const lengthOf = ({ data, headers, key }: EventRecord): number =>
  data.length + (headers?.length ?? 0) + (key?.length ?? 0);

/** Selections of one batch that are kept to be shared, at most, and what their frames may hold when another is kept. */
const MAX_PARTS = 16;
const MAX_PARTS_BYTES = 256 * 2 ** 10;

export class Entry {
  readonly record: EventRecord;
  readonly identity: StreamIdentity;
  #body: Buffer | undefined;
  readonly #frames: Partial<Record<FrameFormat, Buffer>> = {};
  #event: StreamEvent | undefined;
  #position: CursorPosition | undefined;
  #size: number;
  /** Told how much more it holds in memory, by whoever keeps it within a bound. */
  grew: ((bytes: number) => void) | undefined;

  constructor(identity: StreamIdentity, record: EventRecord) {
    this.identity = identity;
    this.record = record;
    this.#size = ENTRY_OVERHEAD + lengthOf(record) * 2; // UTF-16 at worst
  }

  get offset(): bigint {
    return this.record.offset;
  }

  /** Just after it: one object, for all who stand there. */
  get position(): CursorPosition {
    const { offset, tag } = this.record;
    return (this.#position ??= { incarnation: this.identity.incarnation, offset, tag });
  }

  /** As users see it: parsed once, whoever asks, and not before. */
  get event(): StreamEvent {
    if (this.#event) return this.#event;
    this.#grow(ENTRY_OVERHEAD + this.record.data.length * PARSED_BYTES);
    return (this.#event = toStreamEvent(this.identity, this.record));
  }

  /** Roughly what the entry holds in memory, in bytes: more, once it has been encoded or parsed for somebody. */
  get size(): number {
    return this.#size;
  }

  /** The server-sent event for a connection of this stream alone. */
  frame(format: FrameFormat): Buffer {
    return (this.#frames[format] ??= this.#kept(this.#encode(format)));
  }

  /** The envelope without an id, for a connection of several streams, whose id is its own. */
  get body(): Buffer {
    return (this.#body ??= this.#kept(
      Buffer.from(encodeBody(envelopeText(this.identity.name, this.record))),
    ));
  }

  #kept(buffer: Buffer): Buffer {
    this.#grow(BUFFER_OVERHEAD + buffer.length);
    return buffer;
  }

  #grow(bytes: number): void {
    this.#size += bytes;
    this.grew?.(bytes);
  }

  #encode(format: FrameFormat): Buffer {
    const { type, data } = this.record;
    const { name } = this.identity;
    const id = encodePosition(this.position);
    return Buffer.from(
      format === 'envelope'
        ? encodeEvent({ id, data: envelopeText(name, this.record) })
        : encodeEvent({ id, event: isFramable(type) ? type : null, data }),
    );
  }
}

// What reached the table past the functions, which check it, may not break the frames of others.
const isFramable = (type: string | null): boolean => type !== null && typeProblem(type) === undefined;

/** Events to write, in order. */
export type Frames = Pick<Batch, 'entries' | 'first' | 'last' | 'live' | 'whole' | 'bytes'>;

export interface BatchOptions {
  /** On its way as it came. Default: false. */
  readonly live?: boolean;
  /** What it is a selection of. Default: itself. */
  readonly whole?: Batch;
  /** The end of another batch, from this entry on. */
  readonly endOf?: { readonly batch: Batch; readonly index: number } | undefined;
  /** Told how many bytes more it holds, when frames of it are joined for somebody, or less. */
  readonly joined?: ((bytes: number) => void) | undefined;
}

/** One or more consecutive events. */
export class Batch {
  readonly entries: readonly Entry[];
  readonly first: Entry;
  readonly last: Entry;
  /** On its way as it came; false for what a subscriber catches up with. */
  readonly live: boolean;
  /** What it is a part of, as it came; itself if it is all of that. */
  readonly whole: Batch;
  readonly #endOf: BatchOptions['endOf'];
  readonly #joined: BatchOptions['joined'];
  readonly #bytes: Partial<Record<FrameFormat, Buffer>> = {};
  #parts: Map<string, Batch> | undefined;
  #partsBytes = 0;
  #isForAll: boolean | undefined;
  /** What was asked for last: of a page, most go on from the same event. */
  #rest: Batch | undefined;

  constructor(entries: readonly Entry[], { live = false, whole, endOf, joined }: BatchOptions = {}) {
    const first = entries[0];
    const last = entries.at(-1);
    if (!first || !last) throw new RangeError('a batch holds at least one event');
    this.live = live;
    this.whole = whole ?? this;
    this.entries = entries;
    this.first = first;
    this.last = last;
    this.#endOf = endOf;
    this.#joined = joined;
  }

  /** All frames as one buffer; of a batch that is the end of another, the end of its buffer. */
  bytes(format: FrameFormat): Buffer {
    return (this.#bytes[format] ??= this.#encode(format));
  }

  /** Whether everybody may see all of it, as far as the events say. */
  get isForAll(): boolean {
    return (this.#isForAll ??=
      this.#endOf?.batch.isForAll === true ||
      this.entries.every(({ record }) => record.visibleTo === null && record.exclude === null));
  }

  /** Those of its events that are kept; the same buffer for all who keep the same. Undefined: none. */
  only(keeps: (entry: Entry) => boolean): Frames | undefined {
    let which = '';
    const kept = this.entries.filter((entry) => {
      const isKept = keeps(entry);
      which += isKept ? '1' : '0';
      return isKept;
    });
    if (kept.length === this.entries.length) return this;
    if (kept.length === 0) return undefined;
    const parts = (this.#parts ??= new Map<string, Batch>());
    const known = parts.get(which);
    if (known) return known;
    const options = { live: this.live, whole: this.whole };
    if (parts.size >= MAX_PARTS || this.#partsBytes >= MAX_PARTS_BYTES) return new Batch(kept, options);
    const joined = (bytes: number): void => {
      this.#partsBytes += bytes;
      this.#joined?.(bytes);
    };
    const part = new Batch(kept, { ...options, joined });
    parts.set(which, part);
    return part;
  }

  /** The event at an offset, if it is in the batch. */
  at(offset: bigint): Entry | undefined {
    return offset < this.first.offset ? undefined : this.entries[Number(offset - this.first.offset)];
  }

  /** The part after an offset, which lies within the batch or just before it. */
  after(offset: bigint): Batch {
    if (offset < this.first.offset) return this;
    if (this.#rest?.first.offset === offset + 1n) return this.#rest;
    const from = Number(offset - this.first.offset) + 1;
    const { batch, index } = this.#endOf ?? { batch: this, index: 0 };
    const endOf = { batch, index: index + from };
    if (this.#rest) this.#joined?.(-this.#rest.#ownBytes);
    const options = { live: this.live, whole: this.whole, endOf, joined: this.#joined };
    return (this.#rest = new Batch(this.entries.slice(from), options));
  }

  /** What has been made of it beside the frames that it shares with others. */
  get #ownBytes(): number {
    return this.#partsBytes + (this.#rest ? this.#rest.#ownBytes : 0);
  }

  #encode(format: FrameFormat): Buffer {
    if (this.#endOf) return this.#endOf.batch.#bytesFrom(this.#endOf.index, format);
    if (this.entries.length === 1) return this.first.frame(format);
    const bytes = Buffer.concat(this.entries.map((entry) => entry.frame(format)));
    this.#joined?.(bytes.length);
    return bytes;
  }

  #bytesFrom(index: number, format: FrameFormat): Buffer {
    let start = 0;
    for (let before = 0; before < index; before += 1)
      start += this.entries[before]?.frame(format).length ?? 0;
    return this.bytes(format).subarray(start);
  }
}
