// Guards I2 and I8 of the client against what nobody thought of: many subscriptions come and go by chance on a server whose
// connections break at every point and whose streams grow, are trimmed and made again. Each must get every event of its
// streams once, in order, hear of what is lost, and in the end they share one connection and leave none.
import { createClient, type StreamItem, type Subscription } from 'sluice/client';
import { expect, onTestFinished, test } from 'vitest';
import { until } from '../support/diagnostics.ts';
import { randomFrom, withSeed, type Random } from '../support/seed.ts';
import { positionIn, SimulatedEvents } from '../support/simulated-events.ts';

const NAMES = ['a', 'b', 'c', 'd', 'e'];

/** What one subscription has seen; throws on what it must not see. */
class Witness {
  readonly subscription: Subscription;
  readonly streams: readonly string[];
  error: unknown;
  ended: Promise<void>;
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

/** Somewhere to start, and what that says of the first event; incarnation 0 is any. */
const startOf = (random: Random, events: SimulatedEvents, streams: readonly string[]) => {
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

const run = async (random: Random): Promise<void> => {
  const events = new SimulatedEvents(random, NAMES);
  const client = createClient({
    url: 'http://simulated.invalid',
    fetch: events.fetch,
    backoff: { initialMs: 1, maxMs: 4 },
    refusedRetryMs: 3,
  });
  onTestFinished(() => client.close());
  const all: Witness[] = [];
  const closed: Witness[] = [];
  const subscribe = (): void => {
    const streams = NAMES.filter(() => random.chance(0.4));
    if (streams.length === 0 || all.length > 20) return;
    const { after, starts } = startOf(random, events, streams);
    all.push(new Witness(client.subscribe(streams, { after }), starts));
  };
  const acts: readonly (() => void)[] = [
    () => events.append(random.pick(NAMES), 1 + random.below(random.chance(0.1) ? 300 : 4)),
    () => events.append(random.pick(NAMES), 1),
    subscribe,
    () => Array.from({ length: 8 }, subscribe),
    () => {
      const [gone] = all.splice(random.below(all.length), 1);
      gone?.subscription.close();
      if (gone) closed.push(gone);
    },
    () => [...events.connections].forEach((each) => each.end(random.pick(['close', 'cut']))),
    () => (events.missing = random.pick(['b', '', ''])),
    () => events.trim(random.pick(NAMES), random.below(10)),
    () => random.chance(0.3) && events.create(random.pick(NAMES)),
  ];
  for (let step = 0; step < 150; step += 1) {
    random.pick(acts)();
    for (let left = random.below(4); left > 0; left -= 1) await new Promise((done) => setImmediate(done));
  }
  events.missing = '';
  events.isCalm = true;
  await Promise.all(all.map(({ subscription }) => subscription.ready));
  for (const name of NAMES) events.append(name, 2);
  await until(() => all.every((each) => each.error !== undefined || each.isUpToDate(events)));
  expect([...all, ...closed].flatMap(({ error }) => error ?? [])).toEqual([]);
  await until(() => events.connections.size === (all.length > 0 ? 1 : 0));
  for (const { subscription } of all) subscription.close();
  await Promise.all([...all, ...closed].map(({ ended }) => ended));
  await until(() => events.connections.size === 0 && client.status.get().connections.length === 0);
};

test.each(Array.from({ length: 8 }, (_, index) => index))('I2, I8: by chance, part %i', (part) =>
  withSeed((seed) => run(randomFrom(seed + part))),
);
