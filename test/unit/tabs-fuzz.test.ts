// Guards I2 and I8 across tabs against what nobody thought of: tabs that lead and follow are frozen, thawed, closed and
// crashed by chance while their subscriptions come and go, on a server that fails as well. Each subscription must get every
// event once, in order, hear of what is lost, and in the end one tab reads for all, and nobody for nobody.
import { createClient, type Client } from 'sluice/client';
import { expect, onTestFinished, test } from 'vitest';
import { until } from '../support/diagnostics.ts';
import { turn, useFrozenTabs, type FrozenTab } from '../support/frozen-tabs.ts';
import { randomFrom, withSeed, type Random } from '../support/seed.ts';
import { SimulatedEvents } from '../support/simulated-events.ts';
import { startOf, Witness } from '../support/witness.ts';

const NAMES = ['a', 'b', 'c'];
/** How long a leader may be silent: three times a third of it, and it is thought gone. */
const WATCHDOG_MS = 90;

interface Open {
  readonly tab: FrozenTab;
  readonly client: Client;
  readonly witnesses: Witness[];
}

const open = useFrozenTabs();
let groups = 0;

const run = async (random: Random): Promise<void> => {
  const shareAcrossTabs = `fuzz ${(groups += 1)}`;
  const events = new SimulatedEvents(random, NAMES);
  const tabs: Open[] = [];
  const gone: Witness[] = [];
  const openTab = async (): Promise<void> => {
    const tab = open(random);
    const client = createClient({
      url: 'http://simulated.invalid',
      fetch: tab.fetchFrom(events.fetch),
      shareAcrossTabs,
      watchdogMs: WATCHDOG_MS,
      backoff: { initialMs: 1, maxMs: 4 },
      refusedRetryMs: 3,
    });
    onTestFinished(() => client.close());
    await until(() => tab.channels > 1);
    tabs.push({ tab, client, witnesses: [] });
  };
  const subscribe = (): void => {
    const streams = NAMES.filter(() => random.chance(0.5));
    const { tab, client, witnesses } = random.pick(tabs);
    if (streams.length === 0 || witnesses.length > 4 || tab.isFrozen) return;
    const { after, starts } = startOf(random, events, streams);
    witnesses.push(new Witness(client.subscribe(streams, { after }), starts));
  };
  const unsubscribe = (): void => {
    const { tab, witnesses } = random.pick(tabs);
    if (tab.isFrozen) return;
    const left = witnesses.splice(random.below(witnesses.length), 1);
    for (const { subscription } of left) subscription.close();
    gone.push(...left);
  };
  const leave = async (): Promise<void> => {
    if (random.chance(0.8)) return;
    const [{ tab, client, witnesses }] = tabs.splice(random.below(tabs.length), 1) as [Open];
    if (random.chance(0.5)) tab.crash();
    tab.thaw();
    await client.close();
    gone.push(...witnesses);
    await openTab();
  };
  const acts: readonly (() => unknown)[] = [
    () => events.append(random.pick(NAMES), 1 + random.below(4)),
    () => events.append(random.pick(NAMES), 1),
    () => events.append(random.pick(NAMES), 1),
    subscribe,
    subscribe,
    unsubscribe,
    leave,
    () => [...events.connections].forEach((each) => each.end(random.pick(['close', 'cut']))),
    () => void (events.missing = random.pick(['b', '', ''])),
    () => random.chance(0.3) && events.create(random.pick(NAMES)),
    () => random.pick(tabs).tab.freeze(),
    () => random.pick(tabs).tab.thaw(),
    () => {
      random.pick(tabs).tab.freeze();
      const thought = performance.now() + random.below(1.5 * WATCHDOG_MS); // by then it may have lost the lead
      return until(() => performance.now() > thought);
    },
    () => tabs.forEach(({ tab }) => tab.thaw()),
  ];
  for (let left = 3; left > 0; left -= 1) await openTab();
  for (let step = 0; step < 120; step += 1) {
    await random.pick(acts)();
    for (let left = random.below(4); left > 0; left -= 1) await turn();
  }
  events.missing = '';
  events.isCalm = true;
  for (const { tab } of tabs) tab.thaw();
  const all = tabs.flatMap(({ witnesses }) => witnesses);
  await Promise.allSettled(all.map(({ subscription }) => subscription.ready));
  for (const name of NAMES) events.append(name, 2);
  await until(() => all.every((each) => each.error !== undefined || each.isUpToDate(events)));
  expect([...all, ...gone].flatMap(({ error }) => error ?? [])).toEqual([]);
  await until(() => events.connections.size === (all.length > 0 ? 1 : 0));
  for (const { subscription } of all) subscription.close();
  await until(() => events.connections.size === 0);
};

test.each(Array.from({ length: 4 }, (_, index) => index))('I2, I8: by chance, part %i', (part) =>
  withSeed((seed) => run(randomFrom(seed + part))),
);
