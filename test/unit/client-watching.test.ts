// Guards the client against those who watch it: what they throw is reported, and breaks neither a connection nor what
// others see.
import { expect, onTestFinished, test } from 'vitest';
import { createSource } from '../../src/client/observable.ts';
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
