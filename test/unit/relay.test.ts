// Guards the relay's loops where a database cannot be made to show them: that whatever rings, it never spins. The
// listener's session and the passes are scripts here.
import { expect, test } from 'vitest';
import { Relay, type RelayOptions } from '../../src/relay/relay.ts';
import { silentLogger } from '../../src/util/logger.ts';
import { until } from '../support/diagnostics.ts';

test('I7: a ring that comes late, while a publisher is open, is answered by one pass and not by a spin', async () => {
  const [roleKey, asleepKey] = [1n, 2n];
  let ring = (): void => {};
  let passes = 0;
  const script = {
    names: { roleKey, asleepKey, relayChannel: 'relay' },
    listener: {
      connected: true,
      generation: 1,
      // The role can be had; the asleep key cannot: a publishing transaction is open.
      query: async (_: string, values: readonly unknown[]) => [{ got: values[0] === roleKey }],
      hear: (_: string, subscriber: { message: () => void }) => {
        ring = subscriber.message;
        return () => {};
      },
      inForceIfConnected: async () => {},
    },
    passes: {
      run: async () => {
        passes += 1;
        if (passes > 5000) throw new Error('it spins');
        return { moved: 0, more: false, dueInMs: null };
      },
    },
    housekeeping: { rotate: async () => {} },
    retention: { run: async () => {} },
    fallbackPollMs: 600_000,
    logger: silentLogger,
  };
  const relay = new Relay(script as unknown as RelayOptions);
  relay.start();
  await until(() => passes >= 2);
  const before = passes;
  ring();
  for (let turns = 0; turns < 100; turns += 1) await new Promise((resolve) => setImmediate(resolve));
  await until(() => passes > before);
  expect(passes).toBeLessThan(1000); // a spin has made 5 000 before the first turn ends
  await relay.close();
});
