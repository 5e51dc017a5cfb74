// Guards what the fallback poll owes readers (I4) where a database cannot be made to show it: the passes are a script here.
import { expect, test } from 'vitest';
import { FallbackPoll, type FallbackPollOptions } from '../../src/relay/fallback-poll.ts';
import { silentLogger } from '../../src/util/logger.ts';
import { until } from '../support/diagnostics.ts';

test('I4: while events cannot be moved, readers are still told of those that are there', async () => {
  let looks = 0;
  const script = {
    database: { names: { quoted: 'sluice' }, query: async () => [{ stale: true }] },
    passes: { run: async () => Promise.reject(new Error('the disk is full')) },
    housekeeping: {},
    fallbackPollMs: 1,
    logger: silentLogger,
    checkReaders: async () => (looks += 1),
  };
  const poll = new FallbackPoll(script as unknown as FallbackPollOptions);
  poll.start(true);
  await until(() => looks >= 2);
  await poll.close();
  expect(looks).toBeGreaterThan(1);
});
