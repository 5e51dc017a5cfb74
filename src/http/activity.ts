// What this process has done since it was asked to count, as told on Sluice's diagnostics channels: of all that Sluice
// does in the process, whichever handler asks. Only counts; belongs to whoever shows them, and ends with that.
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { DiagnosticsName } from '../util/diagnostics.ts';
import { GroupActivity } from './group-activity.ts';
import { Histogram } from './histogram.ts';

/** In milliseconds. */
const DURATION_BOUNDS = [1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000];

type Hear = (message: Readonly<Record<string, unknown>>) => void;

export class Activity {
  appendedEvents = 0;
  readonly appendMs: Histogram = new Histogram(DURATION_BOUNDS);
  movedEvents = 0;
  readonly passMs: Histogram = new Histogram(DURATION_BOUNDS);
  /** By who made the pass. */
  readonly passes: Map<string, number> = new Map();
  undeliverableEvents = 0;
  tailReads = 0;
  tailEvents = 0;
  pollsFinished = 0;
  pollBehindReaders = 0;
  pollStaleEvents = 0;
  lostSessions = 0;
  /** By whether the replica's answer went to a reader. */
  readonly replicaReads: Map<string, number> = new Map();
  trimmedEvents = 0;
  purgedEvents = 0;
  heldStreams = 0;
  readonly groups: GroupActivity = new GroupActivity();
  /** By where. */
  readonly failures: Map<string, number> = new Map();
  readonly #heard: readonly (readonly [DiagnosticsName, Hear])[];

  constructor() {
    this.#heard = [
      ['sluice:append.committed', ({ events, ms }) => this.#appended(Number(events), Number(ms))],
      ['sluice:relay.passed', ({ moved, ms, by }) => this.#passed(Number(moved), Number(ms), String(by))],
      ['sluice:relay.refused', ({ count }) => (this.undeliverableEvents += Number(count))],
      ['sluice:tail.woken', ({ events }) => this.#woken(Number(events))],
      ['sluice:poll.finished', ({ behind, stale }) => this.#polled(Number(behind), Number(stale))],
      ['sluice:listener.lost', () => (this.lostSessions += 1)],
      ['sluice:replica.read', ({ used }) => increase(this.replicaReads, String(used))],
      ['sluice:retention.enforced', ({ removed, held }) => this.#enforced(Number(removed), Number(held))],
      ['sluice:retention.purged', ({ events }) => (this.purgedEvents += Number(events))],
      ['sluice:background.failed', ({ where }) => increase(this.failures, String(where))],
    ];
    for (const [name, hear] of this.#heard) subscribe(name, hear as (message: unknown) => void);
  }

  close(): void {
    this.groups.close();
    for (const [name, hear] of this.#heard) unsubscribe(name, hear as (message: unknown) => void);
  }

  #appended(events: number, ms: number): void {
    this.appendedEvents += events;
    this.appendMs.observe(ms);
  }

  #passed(moved: number, ms: number, by: string): void {
    this.movedEvents += moved;
    this.passMs.observe(ms);
    increase(this.passes, by);
  }

  #woken(events: number): void {
    this.tailReads += 1;
    this.tailEvents += events;
  }

  #polled(behind: number, stale: number): void {
    this.pollsFinished += 1;
    this.pollBehindReaders += behind;
    this.pollStaleEvents += stale;
  }

  #enforced(removed: number, held: number): void {
    this.trimmedEvents += removed;
    this.heldStreams += held;
  }
}

function increase(counts: Map<string, number>, key: string): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}
