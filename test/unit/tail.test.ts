// Guards the join of replay and live delivery (I2) and what readers are told of lost history (I8), under random
// schedules: appends, wakes, slow sinks, failovers and trims interleaved with page reads that answer whenever they like,
// some of them from a standby that is behind. The logs behind the pages are arrays; everything else is the real tail.
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { EventRecord, StreamIdentity } from '../../src/log/event.ts';
import type { Page } from '../../src/log/read.ts';
import type { CursorPosition } from '../../src/protocol/cursor.ts';
import type { Loss } from '../../src/tail/loss.ts';
import { Nearby, type Behind } from '../../src/tail/nearby.ts';
import { usable } from '../../src/tail/replica.ts';
import { Round } from '../../src/util/round.ts';
import { Subscriber } from '../../src/tail/subscriber.ts';
import { Tail } from '../../src/tail/tail.ts';
import { silentLogger } from '../../src/util/logger.ts';
import { recordAt } from '../support/records.ts';

const incarnation = 1n;
const identity: StreamIdentity = { name: 's', incarnation };
const pageSize = 3;
/** Far more than any schedule here needs, and few enough to tell a loop. */
const maxReads = 500;

/** Pages that readers got from the standby. */
let fromStandby = 0;
/** And from a read that was made for another reader. */
let fromNearby = 0;

/** A stream as the database has it. Every event ever appended has a tag of its own. */
class Log {
  tags: number[] = [];
  trimmed = 0;
  deleted = false;
  /** Every history there has been. */
  readonly versions: number[][] = [];
  #nextTag = 1;

  append(count: number): { before: CursorPosition; records: EventRecord[] } {
    const before = this.at(this.tags.length);
    const first = this.tags.length;
    for (let n = 0; n < count; n += 1) this.tags.push((this.#nextTag += 1));
    return { before, records: this.#records(first + 1) };
  }

  /** A standby that was behind took over: the last events are gone. */
  failover(kept: number): void {
    this.versions.push([...this.tags]);
    this.tags = this.tags.slice(0, Math.max(this.trimmed, kept));
  }

  at(offset: number): CursorPosition {
    return { incarnation, offset: BigInt(offset), tag: this.tags[offset - 1] ?? 0 };
  }

  page(offset: number): Page | undefined {
    if (this.deleted) return undefined;
    return {
      state: {
        incarnation,
        trimmedTo: BigInt(this.trimmed),
        trimmedTag: this.tags[this.trimmed - 1] ?? 0,
        closed: false,
        head: BigInt(this.tags.length),
        headTag: this.tags.at(-1) ?? 0,
      },
      rows: this.#records(Math.max(offset, this.trimmed + 1, 1)).filter(
        (row) => row.offset <= BigInt(offset + pageSize),
      ),
    };
  }

  #records(from: number): EventRecord[] {
    return this.tags.slice(from - 1).map((tag, index) => recordAt(from + index, tag));
  }
}

/** A subscriber and all it was given. Its sink is full after every `appetite` batches until the schedule resumes it. */
class Reader {
  readonly received: EventRecord[] = [];
  readonly start: CursorPosition;
  readonly subscriber: Subscriber;
  loss: Loss | undefined;
  ended: { error: Error | undefined } | undefined;
  gone = false;

  constructor(start: CursorPosition, appetite: number, full: () => void) {
    this.start = start;
    let batches = 0;
    this.subscriber = new Subscriber(start, {
      write: (batch) => {
        this.received.push(...batch.entries.map(({ record }) => record));
        batches += 1;
        if (batches % appetite !== 0) return true;
        full();
        return false;
      },
      lost: (loss) => {
        this.loss = loss;
      },
      ended: (error) => {
        this.ended = { error };
      },
    });
  }

  get seen(): { offset: bigint; tag: number }[] {
    return this.received.map(({ offset, tag }) => ({ offset, tag }));
  }

  /** What follows its start in a history. */
  following(tags: readonly number[]): { offset: bigint; tag: number }[] {
    const from = Number(this.start.offset);
    return tags.slice(from).map((tag, index) => ({ offset: BigInt(from + index + 1), tag }));
  }
}

type Action =
  | { readonly do: 'append'; readonly count: number; readonly heard: 'fed' | 'woken' | 'lost' }
  | { readonly do: 'subscribe'; readonly back: number; readonly appetite: number; readonly readers: number }
  | { readonly do: 'leave' }
  | { readonly do: 'wake' }
  | { readonly do: 'failover'; readonly lost: number }
  | { readonly do: 'trim'; readonly to: number }
  | { readonly do: 'replay' };

const append = fc.record({
  do: fc.constant('append' as const),
  count: fc.integer({ min: 1, max: 5 }),
  heard: fc.constantFrom('fed' as const, 'woken' as const, 'lost' as const),
});
const subscribe = fc.record({
  do: fc.constant('subscribe' as const),
  back: fc.nat(12),
  appetite: fc.integer({ min: 1, max: 4 }),
  readers: fc.integer({ min: 1, max: 3 }),
});
const leave = fc.record({ do: fc.constant('leave' as const) });
const wake = fc.record({ do: fc.constant('wake' as const) });
const failover = fc.record({ do: fc.constant('failover' as const), lost: fc.nat(6) });
/** The standby catches up; until the next one it stays where it is, whatever becomes of the primary. */
const replay = fc.record({ do: fc.constant('replay' as const) });
const trim = fc.record({ do: fc.constant('trim' as const), to: fc.nat(20) });

/** Runs the actions in order, each step and each answer whenever the scheduler says, then lets all come to rest. */
const run = async (
  scheduler: fc.Scheduler,
  actions: readonly Action[],
  maxEvents: number,
): Promise<{ log: Log; readers: Reader[]; tail: Tail }> => {
  const log = new Log();
  log.append(4);
  let reads = 0;
  const standby = new Log();
  const nearby = new Nearby({ maxBytes: 1_000_000, keepMs: 60_000 });
  // From the standby or the primary; a read sees the log at some moment between the question and the answer.
  const behind = async (offset: bigint, { standing, upTo }: Behind): Promise<Page | undefined> => {
    await scheduler.schedule(Promise.resolve(), `standby ${offset}`);
    const isAsked = offset % 2n === 0n; // it rests now and then: those who stand elsewhere ask the primary
    const page = isAsked && usable(standby.page(Number(offset))!, standing, upTo());
    if (!page) return pages.read(identity, offset);
    await scheduler.schedule(Promise.resolve(), `standby's answer ${offset}`);
    fromStandby += 1;
    return page;
  };
  const near = async (reader: Behind): Promise<Page | undefined> => {
    let isOwn = false;
    const page = await nearby.read(identity, reader, (offset) => {
      isOwn = true;
      return behind(offset, reader);
    });
    if (!isOwn) fromNearby += 1;
    return page;
  };
  const pages = {
    readLive: async (stream: StreamIdentity, offset: bigint): Promise<Page | undefined> =>
      pages.read(stream, offset),
    read: async (_: StreamIdentity, offset: bigint): Promise<Page | undefined> => {
      reads += 1;
      if (reads > maxReads) throw new Error(`more than ${maxReads} reads`);
      await scheduler.schedule(Promise.resolve(), `read ${offset}`);
      const page = log.page(Number(offset));
      await scheduler.schedule(Promise.resolve(), `answer ${offset}`);
      return page;
    },
    catchUp: async (_: StreamIdentity, reader: Behind, { alone }: { alone: boolean }) =>
      alone ? behind(reader.standing.offset, reader) : near(reader),
    near: async (_: StreamIdentity, reader: Behind) => near(reader),
    holds: (_: StreamIdentity, reader: Behind): boolean => nearby.holds(identity, reader),
    forget: (): void => nearby.forget(identity),
  };
  const tail = new Tail({
    identity,
    head: log.at(log.tags.length),
    window: { maxEvents, maxBytes: 1_000_000 },
    pages,
    logger: silentLogger,
    // Two of them in a turn, and whatever else there is to do between two turns.
    round: new Round({
      turn: 2,
      perMs: 0,
      many: 1,
      pause: () => scheduler.schedule(Promise.resolve(), 'turn'),
    }),
    onClose: () => {},
  });
  const readers: Reader[] = [];
  let feeds: Promise<void> = Promise.resolve(); // a process learns of its own commits in their order

  const later = async (label: string, work: () => void | Promise<void>): Promise<void> => {
    await scheduler.schedule(Promise.resolve(), label);
    await work();
  };

  const act = (action: Action): void => {
    if (action.do === 'append') {
      const { before, records } = log.append(action.count);
      if (action.heard === 'lost') return;
      const hear = action.heard === 'fed' ? () => tail.feed(before, () => records) : () => tail.wake();
      const earlier = feeds;
      feeds = later(action.heard, async () => {
        await earlier;
        hear();
      });
    } else if (action.do === 'subscribe') {
      for (let n = 0; n < action.readers; n += 1) {
        const start = log.at(Math.max(log.trimmed, log.tags.length - Math.max(0, action.back - n)));
        const reader = new Reader(start, action.appetite, () => {
          void later('drain', () => tail.resume(reader.subscriber));
        });
        void later('attach', () => {
          readers.push(reader);
          tail.attach(reader.subscriber);
          tail.resume(reader.subscriber);
        });
      }
    } else if (action.do === 'leave') {
      const reader = readers.find(({ gone }) => !gone);
      if (!reader) return;
      reader.gone = true;
      tail.detach(reader.subscriber);
    } else if (action.do === 'wake') {
      tail.wake();
    } else if (action.do === 'replay') {
      standby.tags = [...log.tags];
      standby.trimmed = log.trimmed;
    } else if (action.do === 'failover') {
      log.failover(log.tags.length - action.lost);
    } else {
      log.trimmed = Math.max(log.trimmed, Math.min(action.to, log.tags.length));
    }
  };

  scheduler.scheduleSequence(
    actions.map((action) => ({ builder: async () => act(action), label: action.do })),
  );
  await scheduler.waitIdle();
  await feeds;
  // The stream goes on past wherever anybody could stand, and the poll finds that the tail differs from the database.
  const longest = Math.max(...log.versions.map(({ length }) => length), log.tags.length);
  log.append(longest + 1 - log.tags.length);
  tail.wake();
  await scheduler.waitIdle();
  return { log, readers, tail };
};

const window = fc.constantFrom(1, 2, 4, 8, 100);
const schedule = (actions: fc.Arbitrary<Action>): fc.Arbitrary<Action[]> =>
  fc.array(actions, { maxLength: 30, size: 'max' });

describe('I2', () => {
  test('every subscriber gets each event after its start exactly once and in order, whatever the schedule', async () => {
    const actions = schedule(fc.oneof(append, append, subscribe, leave, wake, replay));
    fromStandby = 0;
    fromNearby = 0;
    await fc.assert(
      fc.asyncProperty(fc.scheduler(), actions, window, async (scheduler, list, maxEvents) => {
        const { log, readers } = await run(scheduler, list, maxEvents);
        for (const reader of readers) {
          const expected = reader.following(log.tags);
          expect(reader.loss ?? reader.ended).toBeUndefined();
          expect(reader.seen).toEqual(reader.gone ? expected.slice(0, reader.received.length) : expected);
        }
      }),
      { numRuns: 300 },
    );
    expect(fromStandby).toBeGreaterThan(100); // else their part in this would go untested
    expect(fromNearby).toBeGreaterThan(50);
  });

  test('nothing reaches a subscriber after it left', async () => {
    const log = new Log();
    const tail = new Tail({
      identity,
      head: log.at(0),
      window: { maxEvents: 10, maxBytes: 1_000_000 },
      pages: {
        read: async () => undefined,
        readLive: async () => undefined,
        catchUp: async () => undefined,
        near: async () => undefined,
        holds: () => false,
        forget: () => {},
      },
      logger: silentLogger,
      onClose: () => {},
    });
    const reader = new Reader(log.at(0), 1000, () => {});
    tail.attach(reader.subscriber);
    tail.resume(reader.subscriber);
    const first = log.append(2);
    tail.feed(first.before, () => first.records);
    tail.detach(reader.subscriber);
    const second = log.append(1);
    tail.feed(second.before, () => second.records);
    expect(reader.seen.map(({ offset }) => offset)).toEqual([1n, 2n]);
    expect(tail.subscribers).toBe(0);
  });
});

describe('I8', () => {
  test('interleaving 22: across failovers a subscriber gets one history, to its end, or is told that it is lost', async () => {
    const actions = schedule(
      fc.oneof(
        { weight: 6, arbitrary: append },
        { weight: 3, arbitrary: subscribe },
        { weight: 1, arbitrary: wake },
        { weight: 2, arbitrary: failover },
        { weight: 2, arbitrary: replay },
      ),
    );
    await fc.assert(
      fc.asyncProperty(fc.scheduler(), actions, window, async (scheduler, list, maxEvents) => {
        const { log, readers } = await run(scheduler, list, maxEvents);
        for (const reader of readers) {
          if (!reader.loss) {
            expect(reader.seen).toEqual(reader.following(log.tags));
            continue;
          }
          expect(reader.loss).toMatchObject({ kind: 'reset', resume: { incarnation, offset: 0n } });
          // What it had before it was told is dense, and nothing that never was.
          const histories = [...log.versions, log.tags].flatMap((tags) => reader.following(tags));
          for (const [index, event] of reader.seen.entries()) {
            expect(event.offset).toBe(reader.start.offset + BigInt(index + 1));
            expect(histories).toContainEqual(event);
          }
        }
      }),
      { numRuns: 2000 },
    );
  });

  test('across trims a subscriber gets every event, or is told which are gone', async () => {
    const actions = schedule(
      fc.oneof(
        { weight: 5, arbitrary: append },
        { weight: 3, arbitrary: subscribe },
        { weight: 1, arbitrary: wake },
        { weight: 2, arbitrary: trim },
        { weight: 2, arbitrary: replay },
      ),
    );
    await fc.assert(
      fc.asyncProperty(fc.scheduler(), actions, window, async (scheduler, list, maxEvents) => {
        const { log, readers } = await run(scheduler, list, maxEvents);
        for (const reader of readers) {
          const expected = reader.following(log.tags);
          expect(reader.seen).toEqual(reader.loss ? expected.slice(0, reader.received.length) : expected);
          if (!reader.loss) continue;
          expect(reader.loss.kind).toBe('gap');
          expect(reader.loss.resume.offset).toBeGreaterThan(reader.loss.requested);
          expect(reader.loss.resume.offset).toBeLessThanOrEqual(BigInt(log.trimmed));
        }
      }),
      { numRuns: 300 },
    );
  });

  test('a deleted stream ends every subscriber, once, with its error', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.scheduler(),
        schedule(fc.oneof(append, subscribe)),
        window,
        async (scheduler, list, maxEvents) => {
          const { log, readers, tail } = await run(scheduler, list, maxEvents);
          log.deleted = true;
          tail.wake();
          await scheduler.waitIdle();
          for (const { ended } of readers) expect(ended?.error).toMatchObject({ code: 'stream_not_found' });
          expect(tail.subscribers).toBe(0);
        },
      ),
      { numRuns: 30 },
    );
  });
});
