// Reads under way that serve readers who stand near each other: after a deployment thousands come back within a few pages
// of the head, hardly two of them at the same event, and a read for each would be a storm of its own. Whoever finds a read
// that began at or shortly before its own place waits for that one. It may have begun before the reader stood there, so
// it is believed like a standby (see replica.ts): only if the very event the reader stands on is in it, with something
// after it, in the part of the stream that the tail knows. Everybody else reads for himself.
import type { StreamIdentity } from '../log/event.ts';
import type { Page } from '../log/read.ts';
import type { CursorPosition } from '../protocol/cursor.ts';

/** Places this close to each other share a read: half a page, so that it moves everybody by half a page at least. */
const NEAR_EVENTS = 500n;

interface Read {
  readonly offset: bigint;
  readonly page: Promise<Page | undefined>;
}

export class Nearby {
  readonly #reads = new Map<string, Read>(); // as many as readers that read, at most

  /** What follows the place: from a read of somebody near, or from `read`. */
  async read(
    stream: StreamIdentity,
    { standing, upTo }: { readonly standing: CursorPosition; readonly upTo: bigint },
    read: () => Promise<Page | undefined>,
  ): Promise<Page | undefined> {
    const { offset } = standing;
    const key = `${offset / NEAR_EVENTS}:${stream.incarnation}:${stream.name}`;
    const near = this.#reads.get(key);
    if (near && near.offset <= offset) {
      const page = await near.page;
      return page && serves(page, standing, upTo) ? page : read();
    }
    const own = { offset, page: read() };
    this.#reads.set(key, own);
    try {
      return await own.page;
    } finally {
      if (this.#reads.get(key) === own) this.#reads.delete(key);
    }
  }
}

/** Whether a page that began before the place goes on from it. */
export function serves({ rows }: Page, { offset, tag }: CursorPosition, upTo: bigint): boolean {
  const here = rows[indexOf(rows, offset)];
  const last = rows.at(-1);
  if (here?.offset !== offset || here.tag !== tag || !last) return false;
  return last.offset > offset && last.offset <= upTo;
}

/** A page as it would be if it had been read from the offset on, which is not before where it was. */
export function from({ state, rows }: Page, offset: bigint): Page {
  const index = indexOf(rows, offset);
  return { state, rows: index > 0 ? rows.slice(index) : rows };
}

// Offsets are dense; where they are not, another event is found there, which is noticed.
const indexOf = (rows: Page['rows'], offset: bigint): number => Number(offset - (rows[0]?.offset ?? offset));
