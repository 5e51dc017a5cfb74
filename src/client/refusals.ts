// Which streams a server has refused together, so that they are not asked for together again: not those, where it says no
// for now; not as many, where it says no for good, since servers take a number of streams. A stream that is refused by
// itself is explanation enough, what is not there (404) is not there alone either, and cursors that go ill together are
// replaced by where the streams stand once each has begun. Pure. Loaded with rearrange.ts.
import type { Connection } from './status.ts';

type Refused = Pick<Connection, 'state' | 'streams' | 'problem'>;

/** More than the splits of one connection come to. */
const MAX_REFUSALS = 40;

export class Refusals {
  #all: readonly Refused[] = [];

  add(refused: Refused): void {
    if (refused.problem?.status === 404 || refused.problem?.code === 'cursor_invalid') return;
    this.#all = [...this.#all, refused].slice(-MAX_REFUSALS);
  }

  /** Takes back what one stream has brought about. */
  explain({ streams, problem }: Refused): void {
    if (problem?.status === 401) return; // it is not about streams
    this.#all = this.#all.filter((each) => !streams.some((stream) => each.streams.includes(stream)));
  }

  /** Whether asking for these together is known to be refused. */
  concern(asked: readonly string[]): boolean {
    return this.#all.some(({ state, streams }) =>
      state === 'failed' ? asked.length >= streams.length : streams.every((stream) => asked.includes(stream)),
    );
  }
}
