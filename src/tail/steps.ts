// How a window is cut into the steps in which its readers are given it: consecutive runs of events, the same for all, so
// that thousands who catch up are written the same few buffers wherever each of them began. Pure.
import type { EventRecord } from '../log/event.ts';
import { Batch, type Entry } from './entry.ts';

/** Events handed over in one step of catching up from the window, at most. */
const STEP_EVENTS = 500;
/**
 * Bytes of data handed to a subscriber in one step, at most, unless a single event has more. What a stalled one may
 * hold beyond its socket's buffer.
 */
export const STEP_BYTES: number = 256 * 2 ** 10;

interface Step {
  readonly first: bigint;
  last: bigint;
  events: number;
  bytes: number;
  batch: Batch | undefined;
  /** Bytes of frames that its batch has joined. */
  joined: number;
}

/** The same for what comes at once: as many of it in each step, in order. */
export function inSteps(records: readonly EventRecord[]): EventRecord[][] {
  const steps: EventRecord[][] = [];
  let bytes = STEP_BYTES;
  for (const record of records) {
    if (bytes >= STEP_BYTES) {
      steps.push([]);
      bytes = 0;
    }
    steps.at(-1)?.push(record);
    bytes += record.data.length;
  }
  return steps;
}

export class Steps {
  readonly #grew: (bytes: number) => void;
  #steps: Step[] = []; // consecutive; only the last one still grows

  /** @param grew told how much more its batches hold in memory, or less */
  constructor(grew: (bytes: number) => void) {
    this.#grew = grew;
  }

  /** The next event has come. */
  add({ offset, record }: Entry): void {
    let step = this.#steps.at(-1);
    if (!step || step.events >= STEP_EVENTS || step.bytes >= STEP_BYTES) {
      step = { first: offset, last: offset, events: 0, bytes: 0, batch: undefined, joined: 0 };
      this.#steps.push(step);
    }
    this.#release(step);
    step.last = offset;
    step.events += 1;
    step.bytes += record.data.length;
  }

  /** The oldest event has left; its step is not whole any more. */
  drop({ offset }: Entry): void {
    const [step] = this.#steps;
    if (!step) return;
    this.#release(step);
    if (step.last === offset) this.#steps.shift();
  }

  clear(): void {
    for (const step of this.#steps) this.#release(step);
    this.#steps = [];
  }

  /**
   * What follows an offset, to the end of its step.
   *
   * @param held the entries from one offset to another, as far as they are there
   */
  after(offset: bigint, held: (first: bigint, last: bigint) => Entry[]): Batch {
    const step = this.#steps.findLast(({ first }) => first <= offset + 1n);
    if (!step) throw new RangeError(`what follows ${offset} is not in the window`);
    // Who lacks only the end of what still grows is not worth a buffer of all of it.
    const isShared = step !== this.#steps.at(-1) || (offset - step.first) * 2n < step.last - step.first;
    if (!isShared) return new Batch(held(offset + 1n, step.last));
    step.batch ??= this.#make(step, held(step.first, step.last));
    return step.batch.after(offset);
  }

  #make(step: Step, entries: readonly Entry[]): Batch {
    const batch = new Batch(entries, {
      joined: (bytes) => {
        if (step.batch !== batch) return; // it has been released, and is held by a reader alone
        step.joined += bytes;
        this.#grew(bytes);
      },
    });
    return batch;
  }

  #release(step: Step): void {
    step.batch = undefined;
    if (step.joined > 0) this.#grew(-step.joined);
    step.joined = 0;
  }
}
