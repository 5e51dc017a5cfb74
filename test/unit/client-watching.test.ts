// Guards the client against those who watch it: what they throw is reported, and breaks neither a connection nor what
// others see. And what a view keeps of a stream is what it was told to keep.
import { expect, onTestFinished, test } from 'vitest';
import type { EventItem } from 'sluice/client';
import { createSource } from '../../src/client/observable.ts';
import { keep } from '../../src/react/use-stream.ts';
import { until } from '../support/diagnostics.ts';

test('a listener that throws is reported, and the next one hears all the same', async () => {
  const others = process.listeners('unhandledRejection');
  const reported: unknown[] = [];
  process.removeAllListeners('unhandledRejection');
  process.on('unhandledRejection', (error) => reported.push(error));
  onTestFinished(() => {
    process.removeAllListeners('unhandledRejection');
    for (const each of others) process.on('unhandledRejection', each);
  });
  const source = createSource(1);
  const heard: number[] = [];
  source.subscribe(() => {
    throw new Error('mine');
  });
  source.subscribe(() => heard.push(source.get()));
  source.set(2);
  expect(heard).toEqual([2]);
  await until(() => reported.length === 1);
  expect(reported[0]).toMatchObject({ message: 'mine' });
});

test('a view of none keeps none', () => {
  const item = { kind: 'event', stream: 'a' } as EventItem<null>;
  expect(keep({ events: [], loss: null }, item, 0).events).toEqual([]);
  expect(keep({ events: [item], loss: null }, item, 1).events).toEqual([item]);
});
