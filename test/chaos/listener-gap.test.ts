// Guards I2 and I4 where a process's listener is away while others write: all hints meanwhile are lost, and no poll comes to
// help. Once it listens again, each of those who heard over it reads again: the readers, the relay, the groups.
import { connect, type ConnectOptions, type Sluice } from 'sluice';
import { expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { targetOf, through } from '../support/deaf-proxy.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { Following } from '../support/following.ts';
import { createProxy } from '../support/proxy.ts';

const db = useDatabase({ allowOpenSessions: true });

const open = (options: ConnectOptions): Promise<Sluice> =>
  connect({ connectionString: db.connectionString, fallbackPollMs: 600_000, ...options });

/** Does something while the listener of a process that was given to `before` is away. */
async function whileAway(
  relay: boolean,
  {
    before,
    meanwhile,
  }: { before(this: void, sluice: Sluice): Promise<void>; meanwhile(this: void): Promise<unknown> },
): Promise<AsyncDisposable> {
  const proxy = await createProxy(targetOf(db.connectionString));
  const sluice = await open({ listenConnectionString: through(proxy, db.connectionString), relay });
  await before(sluice);
  const lost = nextMessage('sluice:listener.lost');
  proxy.refuse();
  proxy.cut();
  await lost;
  await meanwhile();
  await proxy.accept();
  await until(() => sluice.bus.generation === 2);
  return {
    async [Symbol.asyncDispose]() {
      await sluice.close();
      proxy.close();
    },
  };
}

test('I2: a reader has what was appended meanwhile', async () => {
  await using writing = await open({});
  await writing.createStream('read');
  let reader: Following | undefined;
  await using _ = await whileAway(false, {
    async before(sluice) {
      reader = new Following(sluice, 'read', 'start');
      await reader.ready;
      await writing.stream('read').append('before');
      expect(await reader.next(1)).toEqual(['1 before']);
    },
    meanwhile: () => writing.stream('read').append('meanwhile'),
  });
  expect(await reader!.next(1)).toEqual(['2 meanwhile']);
  await reader![Symbol.asyncDispose]();
});

test('I4: the relay moves what was published meanwhile', async () => {
  await using writing = await open({ relay: false });
  await writing.createStream('moved');
  const asleep = nextMessage('sluice:relay.asleep');
  await using _ = await whileAway(true, {
    before: async () => void (await asleep),
    meanwhile: () => writing.stream('moved').publish('meanwhile'),
  });
  await until(async () => (await writing.stream('moved').info())?.head === 1n);
});

test('I4: a group handles what was appended meanwhile', async () => {
  await using writing = await open({});
  await writing.createStream('handled');
  const handled: unknown[] = [];
  const ending = new AbortController();
  let consuming: Promise<void> | undefined;
  await using _ = await whileAway(false, {
    async before(sluice) {
      consuming = sluice
        .stream('handled')
        .group('workers')
        .consume(async ({ data }) => void handled.push(data), { signal: ending.signal });
      await writing.stream('handled').append('before');
      await until(() => handled.length === 1);
    },
    meanwhile: () => writing.stream('handled').append('meanwhile'),
  });
  await until(() => handled.length === 2);
  expect(handled).toEqual(['before', 'meanwhile']);
  ending.abort();
  await consuming;
});
