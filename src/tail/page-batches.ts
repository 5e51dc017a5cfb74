// Pages of a stream as batches: what several readers read together is encoded once, for as long as the page is kept.
import type { StreamIdentity } from '../log/event.ts';
import type { Page } from '../log/read.ts';
import { Batch, Entry } from './entry.ts';

export class PageBatches {
  readonly #identity: StreamIdentity;
  readonly #made = new WeakMap<Page, Batch | undefined>();

  constructor(identity: StreamIdentity) {
    this.#identity = identity;
  }

  /** Undefined: the page has no events, or not one after the other. */
  of(page: Page): Batch | undefined {
    if (this.#made.has(page)) return this.#made.get(page);
    const { rows } = page;
    const isDense = rows.every(({ offset }, index) => offset === (rows[0]?.offset ?? 0n) + BigInt(index));
    const batch =
      rows.length > 0 && isDense
        ? new Batch(rows.map((record) => new Entry(this.#identity, record)))
        : undefined;
    this.#made.set(page, batch);
    return batch;
  }
}
