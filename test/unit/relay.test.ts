// Guards the relay's loops where a database cannot be made to show them: that whatever rings, it never spins, and how
// often it passes at a given rate. The listener's session and the passes are scripts here.
import { afterEach, expect, test, vi } from 'vitest';
import { Relay, type RelayOptions } from '../../src/relay/relay.ts';
import { silentLogger } from '../../src/util/logger.ts';
import { until } from '../support/diagnostics.ts';

const [roleKey, asleepKey] = [1n, 2n];

/** A relay whose role can be had, and whose asleep key cannot: a publishing transaction is open. */
function scripted(run: () => object): { relay: Relay; ring: () => void } {
  let told = (): void => {};
  const script = {
    names: { roleKey, asleepKey, relayChannel: 'relay' },
    listener: {
      connected: true,
      generation: 1,
      query: async (_: string, values: readonly unknown[]) => [{ got: values[0] === roleKey }],
      hear: (_: string, subscriber: { message: () => void }) => {
        told = subscriber.message;
        return () => {};
      },
      inForceIfConnected: async () => {},
    },
    passes: { run: async () => run() },
    housekeeping: { rotate: async () => {} },
    retention: { run: async () => {} },
    fallbackPollMs: 600_000,
    logger: silentLogger,
  };
  return { relay: new Relay(script as unknown as RelayOptions), ring: () => told() };
}

afterEach(() => void vi.useRealTimers());

test('I7: a ring that comes late, while a publisher is open, is answered by one pass and not by a spin', async () => {
  let passes = 0;
  const { relay, ring } = scripted(() => {
    passes += 1;
    if (passes > 5000) throw new Error('it spins');
    return { moved: 0, more: false, dueInMs: null };
  });
  relay.start();
  await until(() => passes >= 2);
  const before = passes;
  ring();
  for (let turns = 0; turns < 100; turns += 1) await new Promise((resolve) => setImmediate(resolve));
  await until(() => passes > before);
  expect(passes).toBeLessThan(1000); // a spin has made 5 000 before the first turn ends
  await relay.close();
});

test.each([
  ['shares passes at four events a millisecond', 4, 45, 60],
  ['does not at one event a millisecond', 1, 300, 420],
])('under load it %s', async (_, perMs, least, most) => {
  vi.useFakeTimers();
  let passes = 0;
  let last = performance.now();
  const { relay } = scripted(() => {
    passes += 1;
    const since = performance.now() - last;
    last += since;
    return { moved: Math.max(3, perMs * since), more: false, dueInMs: null, spentMs: 1 };
  });
  relay.start();
  await vi.advanceTimersByTimeAsync(2000);
  expect(passes).toBeGreaterThan(least);
  expect(passes).toBeLessThan(most);
  await Promise.all([relay.close(), vi.advanceTimersByTimeAsync(1000)]);
});
