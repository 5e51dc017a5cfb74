// Reads that serve all who stand near each other: after a deployment thousands come back within a few pages of the head,
// hardly two of them at the same event, and a read for each would be a storm of its own. Whoever finds a read under way
// that began at or before its own place waits for that one, and what was read is kept for a moment. A page may have been
// read before the reader stood there, so it is believed like a standby (see replica.ts): only if it goes on from the very
// event the reader stands on, in the part of the stream that the tail knows. Everybody else reads for himself; that
// history is gone, or another one, is never concluded from here.
import type { StreamIdentity } from '../log/event.ts';
import { MAX_PAGE_EVENTS, type Page } from '../log/read.ts';
import type { CursorPosition } from '../protocol/cursor.ts';
import { Shelf, type ShelfOptions } from './shelf.ts';

const PAGE_EVENTS = BigInt(MAX_PAGE_EVENTS);
/** Reads of others that are waited for, before a reader makes its own. */
const MAX_WAITS = 4;

/** A reader that is behind: where it stands, and how far its tail knows the stream. */
export interface Behind {
  readonly standing: CursorPosition;
  readonly upTo: () => bigint;
  /** Aborted: it has left. */
  readonly signal?: AbortSignal | undefined;
}

/** `isWanted`: asked when its turn has come; if nobody wants it any more, it is not made and fails. */
type ReadFrom = (offset: bigint, isWanted: () => boolean) => Promise<Page | undefined>;

interface UnderWay {
  readonly begin: bigint;
  /** Of those who wait for it. */
  readonly signals: (AbortSignal | undefined)[];
  /** All of them had left when its turn came: nobody else may wait for it. */
  isGivenUp: boolean;
  /** As it was read. */
  readonly answer: Promise<Page | undefined>;
  /** What of it others may be given, once there is any. */
  page: Page | undefined;
}

export class Nearby {
  readonly #shelf: Shelf;
  readonly #underWay = new Map<string, Set<UnderWay>>(); // as many as there are readers that wait, at most

  constructor(options: ShelfOptions) {
    this.#shelf = new Shelf(options);
  }

  /** What follows the reader's place: from a read of somebody near, or by `read`. The page may begin before the place. */
  async read(stream: StreamIdentity, reader: Behind, read: ReadFrom): Promise<Page | undefined> {
    const { offset } = reader.standing;
    const key = keyOf(stream);
    for (let waits = 0; waits < MAX_WAITS; waits += 1) {
      const kept = this.#kept(key, reader);
      if (kept) return kept;
      const near = this.#near(key, offset);
      if (!near) break;
      near.signals.push(reader.signal);
      await near.answer;
      if (near.page && serves(near.page, reader)) return near.page;
    }
    const begin = this.#beginning(key, offset);
    if (begin < offset) {
      const shared = this.#begin(key, begin, reader, read);
      await shared.answer;
      if (shared.page && serves(shared.page, reader)) return shared.page;
    }
    const own = this.#begin(key, offset, reader, read);
    const page = await own.answer;
    return own.page && serves(own.page, reader) ? own.page : page;
  }

  /** Whether what follows the reader's place is at hand. */
  holds(stream: StreamIdentity, reader: Behind): boolean {
    return this.#kept(keyOf(stream), reader) !== undefined;
  }

  /** What was read of the stream before serves nobody any more: it has another history, or is gone. */
  forget(stream: StreamIdentity): void {
    this.#shelf.forget(keyOf(stream));
    this.#underWay.delete(keyOf(stream));
  }

  close(): void {
    this.#shelf.clear();
  }

  // Not one that ended at the head of its time, if most of what the reader lacks has come since.
  #kept(key: string, reader: Behind): Page | undefined {
    const { standing, upTo } = reader;
    return this.#shelf.find(key, (page) => {
      if (!serves(page, reader)) return false;
      const last = page.rows.at(-1)?.offset ?? 0n;
      return last < page.state.head || (last - standing.offset) * 2n >= upTo() - standing.offset;
    });
  }

  /** The last read under way that began at or before the place and may bring what follows it. */
  #near(key: string, offset: bigint): UnderWay | undefined {
    let near: UnderWay | undefined;
    for (const read of this.#underWay.get(key) ?? []) {
      const mayServe = !read.isGivenUp && read.begin <= offset && offset < read.begin + PAGE_EVENTS;
      if (mayServe && (!near || read.begin > near.begin)) near = read;
    }
    return near;
  }

  // Whoever reads alone begins where it stands. Where others read, a page begins where it serves most of them, unless one
  // from there or later has ended before the place: then events are large, and a page has few of them.
  #beginning(key: string, offset: bigint): bigint {
    const begins = this.#shelf.begins(key);
    for (const read of this.#underWay.get(key) ?? []) begins.push(read.begin);
    const first = offset - (offset % PAGE_EVENTS);
    const isTried = begins.some((begin) => begin >= first && begin <= offset);
    return begins.length === 0 || isTried ? offset : first;
  }

  #begin(key: string, begin: bigint, { upTo, signal }: Behind, read: ReadFrom): UnderWay {
    const reads = this.#underWay.get(key) ?? new Set();
    this.#underWay.set(key, reads);
    const isForgotten = (): boolean => this.#underWay.get(key) !== reads;
    const answered = (page: Page | undefined): Page | undefined => {
      own.page = page && known(page, upTo());
      if (own.page && !isForgotten()) this.#shelf.put(key, begin, own.page);
      return page;
    };
    const ended = (): void => {
      reads.delete(own);
      if (reads.size === 0 && !isForgotten()) this.#underWay.delete(key);
    };
    const signals = [signal];
    const isWanted = (): boolean => {
      own.isGivenUp = signals.every((each) => each?.aborted);
      return !own.isGivenUp;
    };
    const answer = read(begin, isWanted).then(answered).finally(ended);
    const own: UnderWay = { begin, signals, isGivenUp: false, answer, page: undefined };
    reads.add(own);
    return own;
  }
}

/**
 * Whether the page goes on from the very event a reader stands on; it may begin before that. Offsets are dense; where they
 * are not, another event is found there, which is noticed.
 */
export function goesOn({ state, rows }: Page, { offset, tag }: CursorPosition): boolean {
  const last = rows.at(-1);
  if (!last || last.offset <= offset) return false;
  if (offset === state.trimmedTo) return tag === state.trimmedTag && rows[0]?.offset === offset + 1n;
  const here = rows[Number(offset - (rows[0]?.offset ?? offset))];
  return here?.offset === offset && here.tag === tag;
}

/** Whether a page that was read for anybody may be given to the reader. */
export function serves(page: Page, { standing, upTo }: Behind): boolean {
  return goesOn(page, standing) && (page.rows.at(-1)?.offset ?? 0n) <= upTo();
}

/** As much of a page as the tail knows; undefined: nothing. */
function known(page: Page, upTo: bigint): Page | undefined {
  const { state, rows } = page;
  const last = rows.at(-1);
  if (!last || last.offset <= upTo) return last && page;
  const some = rows.filter(({ offset }) => offset <= upTo);
  return some.length > 0 ? { state, rows: some } : undefined;
}

const keyOf = ({ incarnation, name }: StreamIdentity): string => `${incarnation}:${name}`;
