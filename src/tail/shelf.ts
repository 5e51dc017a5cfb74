// Pages that were read a moment ago, kept for readers who come by the same place: bounded in bytes, number and time, the
// oldest leaving first. Who may have one is for others to say.
import type { Page } from '../log/read.ts';
import { estimatedBytes } from './entry.ts';

/** Of one stream, at most: they are looked through one by one. */
const MAX_PAGES = 64;

export interface ShelfOptions {
  /** Of all pages: roughly what they hold in memory, with all that is made of them. 0: none is kept. */
  readonly maxBytes: number;
  /** How long a page is kept, in milliseconds. */
  readonly keepMs: number;
}

interface Kept {
  readonly stream: string;
  /** The offset it was read from. */
  readonly begin: bigint;
  readonly page: Page;
  readonly bytes: number;
  readonly untilMs: number;
}

export class Shelf {
  readonly #options: ShelfOptions;
  readonly #all = new Set<Kept>(); // the oldest first, as are those of a stream
  readonly #streams = new Map<string, Set<Kept>>();
  #bytes = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: ShelfOptions) {
    this.#options = options;
  }

  get bytes(): number {
    return this.#bytes;
  }

  put(stream: string, begin: bigint, page: Page): void {
    const { maxBytes, keepMs } = this.#options;
    const bytes = page.rows.reduce((sum, record) => sum + estimatedBytes(record), 0);
    if (bytes > maxBytes) return;
    const pages = this.#streams.get(stream) ?? new Set();
    const kept = { stream, begin, page, bytes, untilMs: performance.now() + keepMs };
    this.#streams.set(stream, pages.add(kept));
    this.#all.add(kept);
    this.#bytes += bytes;
    const [oldest] = pages;
    if (oldest && pages.size > MAX_PAGES) this.#drop(oldest);
    for (const each of this.#all) {
      if (this.#bytes <= maxBytes) break;
      this.#drop(each);
    }
    this.#timer ??= setTimeout(() => this.#sweep(), keepMs).unref();
  }

  /** The newest page that is good enough. */
  find(stream: string, isGood: (page: Page) => boolean): Page | undefined {
    return this.#of(stream).findLast(({ page }) => isGood(page))?.page;
  }

  /** Where the pages of a stream begin. */
  begins(stream: string): bigint[] {
    return this.#of(stream).map(({ begin }) => begin);
  }

  forget(stream: string): void {
    for (const kept of this.#streams.get(stream) ?? []) this.#drop(kept);
  }

  clear(): void {
    for (const kept of this.#all) this.#drop(kept);
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #of(stream: string): Kept[] {
    const now = performance.now();
    return [...(this.#streams.get(stream) ?? [])].filter(({ untilMs }) => untilMs > now);
  }

  #drop(kept: Kept): void {
    if (!this.#all.delete(kept)) return;
    this.#bytes -= kept.bytes;
    const pages = this.#streams.get(kept.stream);
    pages?.delete(kept);
    if (pages?.size === 0) this.#streams.delete(kept.stream);
  }

  // Also when nobody comes: memory is not held for longer than was said.
  #sweep(): void {
    const now = performance.now();
    this.#timer = undefined;
    for (const kept of this.#all) {
      if (kept.untilMs <= now) {
        this.#drop(kept);
        continue;
      }
      this.#timer = setTimeout(() => this.#sweep(), kept.untilMs - now).unref();
      return;
    }
  }
}
