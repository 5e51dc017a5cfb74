// Guards the telemetry: whoever subscribes to a point hears it, whatever the garbage collector does meanwhile. Every
// test that waits for a message, and every user who counts them, relies on that.
import { hasSubscribers, subscribe, unsubscribe } from 'node:diagnostics_channel';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import { report } from '../../src/util/diagnostics.ts';
import { until } from '../support/diagnostics.ts';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;
let finalizers = 0; // run so far; those of one collection run together
const collected = new FinalizationRegistry(() => (finalizers += 1));
const turn = (): Promise<void> => new Promise((done) => setImmediate(done));

test('a point that was used and is heard again only after a collection is still heard', async () => {
  const name = 'sluice:sse.closed';
  const heard: unknown[] = [];
  const hear = (message: unknown): void => void heard.push(message);
  // Used once with a listener and once without, as by a test before this one.
  subscribe(name, hear);
  unsubscribe(name, hear);
  report(name, () => ({ nobody: 'listens' }));
  collected.register({}, undefined);
  await turn(); // what the stack of this turn still holds is not collected

  collectGarbage();
  subscribe(name, hear); // before the finalizers of what was just collected
  await until(() => finalizers > 0);
  await turn();

  expect(hasSubscribers(name)).toBe(true);
  report(name, () => ({ n: 1 }));
  expect(heard).toEqual([{ n: 1 }]);
  unsubscribe(name, hear);
});
