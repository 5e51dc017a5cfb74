// The recent events of one stream: consecutive, bounded in number and bytes, the oldest leaving first. What is made of
// them for their readers counts too. Accepts only the next offset, so it can never hold a gap. Pure.
import type { Batch, Entry } from './entry.ts';
import { Steps } from './steps.ts';

export interface WindowLimits {
  readonly maxEvents: number;
  readonly maxBytes: number;
}

export class Window {
  readonly #limits: WindowLimits;
  #entries: Entry[] = [];
  #dropped = 0; // entries before this index have left; compacted now and then, so that leaving costs O(1)
  #bytes = 0;
  readonly #steps = new Steps((bytes) => this.#grew(bytes));

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
    this.#steps.add(entry);
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

  /** What follows `offset`, in one step; the window must cover the offset and have something after it. */
  after(offset: bigint): Batch {
    return this.#steps.after(offset, (first, last) => this.#between(first, last));
  }

  clear(): void {
    for (const entry of this.#entries) entry.grew = undefined;
    this.#steps.clear();
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
    this.#dropped += 1;
    if (first) {
      first.grew = undefined;
      this.#bytes -= first.size;
      this.#steps.drop(first);
    }
    if (this.#dropped > 32 && this.#dropped * 2 > this.#entries.length) {
      this.#entries = this.#entries.slice(this.#dropped);
      this.#dropped = 0;
    }
  }

  #between(from: bigint, to: bigint): Entry[] {
    const { first } = this;
    if (!first) return [];
    const index = (offset: bigint): number => this.#dropped + Math.max(0, Number(offset - first.offset));
    return this.#entries.slice(index(from), index(to + 1n));
  }
}
