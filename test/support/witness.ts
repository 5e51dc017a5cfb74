// Owns what a test of chance knows of one subscription: what it has seen, and that it may see nothing else. Events say in
// their data of which history they are.
import type { StreamItem, Subscription } from 'sluice/client';
import { expect } from 'vitest';
import type { Random } from './seed.ts';
import { positionIn, type SimulatedEvents } from './simulated-events.ts';

/** What one subscription has seen; throws on what it must not see. */
export class Witness {
  readonly subscription: Subscription;
  readonly streams: readonly string[];
  error: unknown;
  readonly ended: Promise<void>;
  readonly #seen = new Map<string, readonly [incarnation: number, offset: number]>();

  constructor(
    subscription: Subscription,
    starts: ReadonlyMap<string, readonly [number, number] | undefined>,
  ) {
    this.subscription = subscription;
    this.streams = [...starts.keys()];
    for (const [stream, start] of starts) if (start) this.#seen.set(stream, start);
    this.ended = this.#watch().catch((error: unknown) => void (this.error = error));
  }

  /** Whether it has come to the end of its streams. One that started at the end has seen nothing yet, perhaps. */
  isUpToDate(events: SimulatedEvents): boolean {
    return this.streams.every((stream) => this.#seen.get(stream)?.[1] === events.streams.get(stream)!.head);
  }

  async #watch(): Promise<void> {
    for await (const item of this.subscription) this.#take(item);
  }

  #take(item: StreamItem): void {
    const { stream } = item;
    const seen = this.#seen.get(stream);
    if (item.kind === 'event') {
      const [incarnation, offset] = item.data as [number, number];
      expect(Number(item.offset)).toBe(offset);
      if (seen)
        expect([incarnation || seen[0], offset], stream).toEqual([seen[0] || incarnation, seen[1] + 1]);
      this.#seen.set(stream, [incarnation, offset]);
    } else if (item.kind === 'gap' || item.kind === 'reset') {
      if (item.kind === 'gap' && seen) expect([stream, Number(item.requested)]).toEqual([stream, seen[1]]);
      const [incarnation = 0] = item.kind === 'gap' ? (seen ?? []) : [];
      this.#seen.set(stream, [incarnation, Number(item.oldest) - 1]);
    }
  }
}

interface Start {
  readonly after: string | bigint;
  readonly starts: ReadonlyMap<string, readonly [incarnation: number, offset: number] | undefined>;
}

/** Somewhere to start, and what that says of the first event; incarnation 0 is any. */
export const startOf = (random: Random, events: SimulatedEvents, streams: readonly string[]): Start => {
  const all = streams.map((name) => ({ name, stream: events.streams.get(name)! }));
  const kind = random.below(4);
  if (kind === 0) return { after: 'end', starts: new Map(streams.map((name) => [name, undefined])) };
  if (kind === 1) {
    const after = random.below(Math.min(...all.map(({ stream }) => stream.head)) + 1);
    const starts = new Map(streams.map((name) => [name, [0, after] as const]));
    return { after: BigInt(after), starts };
  }
  const starts = new Map(
    all.map(({ name, stream }) => [name, [stream.incarnation, random.below(stream.head + 1)] as const]),
  );
  const after = all.map(({ name, stream }) => positionIn(stream, starts.get(name)![1])).join('.');
  return { after, starts };
};
