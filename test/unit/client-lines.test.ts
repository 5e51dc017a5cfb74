// Guards which connection serves whom, with a server that says each frame when the test wants it: who has caught up is
// never put behind somebody who has not (I2), and what was refused is not asked for over and over.
import { expect, test } from 'vitest';
import { until } from '../support/diagnostics.ts';
import { at, scriptEvents } from '../support/scripted-events.ts';
import { collect } from '../support/stream-reader.ts';

test('I2: a replay beside a live reader keeps no live event from it', async () => {
  const { client, attempt } = scriptEvents();
  const live = collect(client.subscribe('a'));
  const main = await attempt(0);
  main.open({ a: 5 });
  main.id(at(5));
  await until(() => client.status.get().state === 'live');
  const replay = collect(client.subscribe('a', { after: 'start' }));
  const own = await attempt(1);
  own.open({ a: 5 });
  own.id(at(0));
  own.event('a', 1);
  await replay.received(1);
  main.event('a', 6);
  await live.received(1);
  main.event('a', 7);
  await live.received(2);
  for (const offset of [2, 3, 4, 5]) own.event('a', offset);
  await replay.received(5);
  main.event('a', 8);
  await live.received(3);
  for (const offset of [6, 7, 8]) own.event('a', offset);
  await until(() => client.status.get().connections.length === 1);
  const left = main.isOver ? own : main;
  left.event('a', 9);
  await Promise.all([live.received(4), replay.received(9)]);
  expect([live.offsets, replay.offsets]).toEqual([
    [6, 7, 8, 9],
    [1, 2, 3, 4, 5, 6, 7, 8, 9],
  ]);
});
