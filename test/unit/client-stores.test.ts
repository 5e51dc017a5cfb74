// Guards what a component reads through: what cannot be asked for is an error it can show and takes no page down, and
// where nothing is asked for nothing is read.
import { expect, test } from 'vitest';
import { createStreamStore } from '../../src/react/stream-store.ts';
import { until } from '../support/diagnostics.ts';
import { at, scriptEvents } from '../support/scripted-events.ts';
import { upTo } from '../support/up-to.ts';

const count = (sum: number, items: readonly unknown[]): number => sum + items.length;

test.each([
  ['a cursor that is none', 'a', 'yesterday', { code: 'cursor_invalid' }],
  ['too many streams', upTo(21).map(String), undefined, { name: 'RangeError' }],
])('%s is told as the error of the store', (_, streams, after, error) => {
  const { client, attempts } = scriptEvents();
  const store = createStreamStore(client, streams, { after, initial: 0, reduce: count });
  let told = 0;
  const leave = store.subscribe(() => (told += 1));
  expect(store.get()).toMatchObject({ value: 0, error });
  expect(store.get()).toBe(store.get());
  expect([told, attempts.length]).toEqual([1, 0]);
  leave();
});

test.each([
  ['null', null],
  ['an empty list', []],
  ['an empty name', ''],
])('of %s nothing is read', async (_, streams) => {
  const { client, attempts } = scriptEvents();
  const store = createStreamStore(client, streams, { initial: 0, reduce: count });
  store.subscribe(() => {})();
  store.subscribe(() => {});
  await new Promise((done) => setImmediate(done));
  expect(attempts).toEqual([]);
  expect(client.status.get().state).toBe('idle');
  expect(store.get()).toEqual({ value: 0, error: null });
});

test('I2: watched and left in quick turns, it reads over one connection, and each event once', async () => {
  const { client, attempts } = scriptEvents();
  const store = createStreamStore(client, 'a', { after: 'start', initial: 0, reduce: count });
  for (let turn = 0; turn < 100; turn += 1) store.subscribe(() => {})();
  const leave = store.subscribe(() => {});
  await until(() => attempts.length === 1);
  const [line] = attempts;
  line!.open({ a: 2 });
  line!.id(at(0));
  for (const offset of [1, 2]) line!.event('a', offset);
  await until(() => store.get().value === 2);
  leave();
  await until(() => line!.isOver);
  expect(attempts.length).toBe(1);
});

test('what ended it is forgotten once it is read again', async () => {
  const { client, attempt } = scriptEvents();
  const store = createStreamStore(client, 'a', { initial: 0, reduce: count });
  let told = 0;
  const watch = (): (() => void) => store.subscribe(() => (told += 1));
  const leave = watch();
  (await attempt(0)).answer(400, { code: 'cursor_invalid', detail: 'no' });
  await until(() => store.get().error !== null);
  leave();
  watch()();
  expect([store.get().error, told]).toEqual([null, 2]);
});
