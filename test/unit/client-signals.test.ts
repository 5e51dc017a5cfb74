// Guards one signal for many subscriptions: it ends them all, and has one listener while any of them lasts (I7).
import { getEventListeners } from 'node:events';
import { createClient } from 'sluice/client';
import { expect, test } from 'vitest';

const listeners = (signal: AbortSignal): number => getEventListeners(signal, 'abort').length;
const never = (): Promise<never> => new Promise(() => {});
const open = (): ReturnType<typeof createClient> =>
  createClient({ url: 'http://nobody.invalid', fetch: never });

test('I7: it has one listener, until the last of them is over', async () => {
  await using client = open();
  const { signal } = new AbortController();
  const all = Array.from({ length: 12 }, (_, n) => client.subscribe(`s${n}`, { signal }));
  const other = client.subscribe('other');
  for (const subscription of all) {
    expect(listeners(signal)).toBe(1);
    subscription.ready.catch(() => {});
    subscription.close();
  }
  expect(listeners(signal)).toBe(0);
  other.ready.catch(() => {});
});

test('it ends all of them, with its reason, and nobody else; whoever comes later is over at once', async () => {
  await using client = open();
  const ending = new AbortController();
  const { signal } = ending;
  const mine = Array.from({ length: 12 }, (_, n) => client.subscribe(`s${n}`, { signal }));
  const others = [undefined, new AbortController().signal].map((signal) => client.subscribe('o', { signal }));
  let over = 0;
  for (const { ready } of others) ready.catch(() => (over += 1));
  const reason = new Error('enough');
  ending.abort(reason);
  for (const { ready } of [...mine, client.subscribe('late', { signal })])
    await expect(ready).rejects.toBe(reason);
  expect([over, listeners(signal)]).toEqual([0, 0]);
  for await (const item of mine[0]!) expect(item).toBeUndefined();
  await client.close();
  await Promise.allSettled(others.map(({ ready }) => ready));
  expect(over).toBe(2);
});
