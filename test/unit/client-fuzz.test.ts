// Guards I2 and I8 of the client against what nobody thought of: many subscriptions come and go by chance on a server whose
// connections break at every point and whose streams grow, are trimmed and made again. Each must get every event of its
// streams once, in order, hear of what is lost, and in the end they share one connection and leave none.
import { createClient } from 'sluice/client';
import { expect, onTestFinished, test } from 'vitest';
import { until } from '../support/diagnostics.ts';
import { randomFrom, withSeed, type Random } from '../support/seed.ts';
import { SimulatedEvents } from '../support/simulated-events.ts';
import { startOf, Witness } from '../support/witness.ts';

const NAMES = ['a', 'b', 'c', 'd', 'e'];

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
