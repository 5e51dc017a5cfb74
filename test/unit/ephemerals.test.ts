// Guards that what is broadcast to thousands leaves turns for those who come meanwhile, and keeps its order (I7, I9).
import { expect, test } from 'vitest';
import type { Database } from '../../src/db/database.ts';
import type { Broadcasts } from '../../src/ephemerals/broadcasts.ts';
import { Ephemerals } from '../../src/ephemerals/ephemerals.ts';
import type { Listener } from '../../src/listen/listener.ts';
import { deferred, type Deferred } from '../../src/util/deferred.ts';
import { silentLogger } from '../../src/util/logger.ts';
import { Round } from '../../src/util/round.ts';
import { until } from '../support/diagnostics.ts';

/** Ephemerals of a database that finds what was sent, each message once; two of those connected have theirs in a turn. */
function stage(): { ephemerals: Ephemerals; send: (data: string) => void; turn: () => void } {
  const sent: string[] = [];
  const rows = async (text: string): Promise<unknown[]> =>
    text.includes('ephemerals')
      ? sent.splice(0).map((data, n) => ['s', '1', String(n), 'a', null, null, null, data])
      : [['s']];
  const database = { rows, names: { quoted: 'x', ephemeralsChannel: 'c' } } as unknown as Database;
  const listener = { hear: () => () => {}, inForceIfConnected: async () => {} } as unknown as Listener;
  let pause: Deferred<void> = deferred();
  const round = new Round({ turn: 2, perMs: 0, many: 1, pause: () => pause.promise });
  const options = { database, listener, logger: silentLogger, round, onPresence: () => {} };
  const ephemerals = new Ephemerals(options);
  const send = (data: string): void => {
    sent.push(data);
    ephemerals.wake();
  };
  const turn = (): void => {
    const { resolve } = pause;
    pause = deferred();
    resolve();
  };
  return { ephemerals, send, turn };
}

test('I7: while many come, they are given some at a time, and the next message after all have had this one', async () => {
  const { ephemerals, send, turn } = stage();
  const got: string[][] = Array.from({ length: 5 }, () => []);
  for (const each of got) {
    const broadcast = ({ bytes }: Broadcasts): void =>
      void each.push(/"data":(\d)/.exec(String(bytes))?.[1] ?? '');
    ephemerals.join(['a'], { broadcast });
  }
  await ephemerals.ready();
  const having = (data: string): number => got.filter((each) => each.at(-1) === data).length;
  send('1');
  await until(() => having('1') === 2);
  send('2');
  turn();
  await until(() => having('1') === 4);
  turn();
  await until(() => having('2') === 2);
  expect(got.map((each) => each.join(''))).toEqual(['12', '12', '1', '1', '1']);
  turn();
  await until(() => having('2') === 4);
  turn();
  await until(() => having('2') === 5);
  await ephemerals.close();
  expect(got.map((each) => each.join(''))).toEqual(['12', '12', '12', '12', '12']);
});
