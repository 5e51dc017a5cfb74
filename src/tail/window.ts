// The recent events of one stream: consecutive, bounded in number and bytes, the oldest leaving first. What is made of
// them for their readers counts too. Accepts only the next offset, so it can never hold a gap. Pure.
import type { Entry } from './entry.ts';

/**
 * Bytes of data handed to a subscriber in one step, at most, unless a single event has more. What a stalled one may
 * hold beyond its socket's buffer.
 */
export const STEP_BYTES: number = 256 * 2 ** 10;

export interface WindowLimits {
  readonly maxEvents: number;
  readonly maxBytes: number;
}

export class Window {
  readonly #limits: WindowLimits;
  #entries: Entry[] = [];
  #dropped = 0; // entries before this index have left; compacted now and then, so that leaving costs O(1)
  #bytes = 0;

  constructor(limits: WindowLimits) {
    this.#limits = limits;
  }

  get length(): number {
    return this.#entries.length - this.#dropped;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** The oldest event held. */
  get first(): Entry | undefined {
    return this.#entries[this.#dropped];
  }

  /** @throws RangeError for anything but the next offset */
  push(entry: Entry): void {
    const last = this.#entries.at(-1);
    if (last && this.length > 0 && entry.offset !== last.offset + 1n) {
      throw new RangeError(`offset ${entry.offset} does not follow ${last.offset}`);
    }
    this.#entries.push(entry);
    entry.grew = this.#grew;
    this.#grew(entry.size);
  }

  /** Whether everything after `offset` up to the newest event is here. */
  covers(offset: bigint): boolean {
    const { first } = this;
    return first !== undefined && offset + 1n >= first.offset;
  }

  /** The event at an offset, if it is here. */
  at(offset: bigint): Entry | undefined {
    const { first } = this;
    return first && offset >= first.offset
      ? this.#entries[this.#dropped + Number(offset - first.offset)]
      : undefined;
  }

  /** Up to `max` events after `offset`, within STEP_BYTES but at least one; the window must cover the offset. */
  after(offset: bigint, max: number): Entry[] {
    const { first } = this;
    if (!first || !this.covers(offset)) return [];
    const from = this.#dropped + Number(offset + 1n - first.offset);
    let to = from;
    for (let bytes = 0; to < Math.min(from + max, this.#entries.length) && bytes < STEP_BYTES; to += 1) {
      bytes += this.#entries[to]?.record.data.length ?? 0;
    }
    return this.#entries.slice(from, to);
  }

  clear(): void {
    for (const entry of this.#entries) entry.grew = undefined;
    this.#entries = [];
    this.#dropped = 0;
    this.#bytes = 0;
  }

  // One for all entries; called as they come, and again as they are encoded.
  readonly #grew = (bytes: number): void => {
    this.#bytes += bytes;
    while (this.length > this.#limits.maxEvents || this.#bytes > this.#limits.maxBytes) this.#dropFirst();
  };

  #dropFirst(): void {
    const { first } = this;
    if (first) {
      this.#bytes -= first.size;
      first.grew = undefined;
    }
    this.#dropped += 1;
    if (this.#dropped > 32 && this.#dropped * 2 > this.#entries.length) {
      this.#entries = this.#entries.slice(this.#dropped);
      this.#dropped = 0;
    }
  }
}
