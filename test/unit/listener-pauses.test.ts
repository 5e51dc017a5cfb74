// Guards how long a listener waits before it tries again, and that it never gives up: a random time up to 500 ms after the
// first failure, up to twice as much after each, up to 30 s (I7).
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { expect, onTestFinished, test, vi } from 'vitest';
import { Listener } from '../../src/listen/listener.ts';
import { silentLogger } from '../../src/util/logger.ts';

const FAILED = 'sluice:background.failed';

/** Resolves once the next attempt has failed, and has set the only timer there is. */
const nextFailure = async (): Promise<void> => {
  await new Promise<void>((resolve) => {
    const onFailed = (): void => {
      unsubscribe(FAILED, onFailed);
      resolve();
    };
    subscribe(FAILED, onFailed);
  });
  await new Promise((done) => setImmediate(done));
  expect(vi.getTimerCount()).toBe(1);
};

test('I7: the pauses are spread over 0.5 s, 1 s, 2 s … 30 s, for ever', async () => {
  onTestFinished(() => void vi.useRealTimers().restoreAllMocks());
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  vi.spyOn(Math, 'random').mockReturnValue(0.5);
  const listener = new Listener({
    connectionString: 'postgres://127.0.0.1:1/nobody_listens_there',
    heartbeatMs: 1000,
    idleSessionTimeoutMs: 10_000,
    deadlineMs: 2000,
    logger: silentLogger,
    send: () => Promise.resolve(true),
  });
  let failed = nextFailure();
  listener.start();
  const pauses: number[] = [];
  for (let failure = 0; failure < 30; failure += 1) {
    await failed;
    failed = nextFailure();
    const before = performance.now();
    vi.advanceTimersToNextTimer();
    pauses.push(2 * (performance.now() - before)); // half of the range, by our chance
  }
  await failed;
  await listener.close();
  const doubled = [500, 1000, 2000, 4000, 8000, 16_000];
  expect(pauses).toEqual([...doubled, ...Array.from({ length: 24 }, () => 30_000)]);
});
