// Guards against waiting for others: whoever holds a transaction, a stream or the relay role and goes to sleep over it
// delays nobody else. Everywhere the condition is "delivered while the holder is still open", never a time.
import { connect, type ConnectOptions, type Sluice } from 'sluice';
import { expect, test } from 'vitest';
import { quick } from '../support/chaos.ts';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { Reader } from '../support/readers.ts';
import { waitingForLocks } from '../support/sessions.ts';
import { SluiceProcess } from '../support/sluice-process.ts';

const db = useDatabase();

const open = (options: ConnectOptions = {}): Promise<Sluice> =>
  connect({ connectionString: db.connectionString, ...quick, ...options });

/** The values in a stream, in order, up to now. */
const valuesIn = async (sluice: Sluice, stream: string): Promise<unknown[]> =>
  (await sluice.stream<{ value: string }>(stream).read()).events.map(({ data }) => data.value);

let delivered = 0;
/** Publishes and appends to a stream and waits until a reader has got both. */
async function deliver(sluice: Sluice, stream: string): Promise<void> {
  delivered += 1;
  const [published, appended] = [`published ${delivered}`, `appended ${delivered}`];
  const after = (await sluice.stream(stream).info())?.head;
  const reader = new Reader({ name: 'reader', stream, after, sluice: () => sluice });
  const got = (value: string): boolean => reader.reading.events.some((event) => event.value === value);
  await sluice.stream(stream).publish({ value: published });
  await until(() => got(published));
  await sluice.stream(stream).append({ value: appended });
  await until(() => got(appended));
  await reader.stop();
}

const openTransactions = async (): Promise<number> => {
  const { rows } = await db.query<{ open: number }>(
    `select count(*)::integer as open from pg_stat_activity
     where datname = current_database() and application_name = 'test client' and state = 'idle in transaction'`,
  );
  return rows[0]?.open ?? 0;
};

test('I1: a transaction held open elsewhere delays no event', async () => {
  await using sluice = await open();
  await db.query('create table elsewhere (id integer)');
  await using snapshot = await openClient(db.connectionString);
  await snapshot.query('begin isolation level serializable');
  await snapshot.query('select from elsewhere');
  await using writer = await openClient(db.connectionString);
  await writer.query('begin');
  await writer.query('insert into elsewhere values (1)');
  await deliver(sluice, 'beside a transaction');
  expect(await openTransactions()).toBe(2);
});

test('I1: a transaction that published and stays open delays no event, not even of its own stream', async () => {
  await using sluice = await open();
  await using publisher = await openClient(db.connectionString);
  await publisher.query('begin');
  await sluice.stream('shared').publish({ value: 'first written' }, { tx: publisher });
  await sluice.stream('its own').publish({ value: 'first written' }, { tx: publisher });
  await deliver(sluice, 'shared');
  await deliver(sluice, 'its own');
  await deliver(sluice, 'another');
  expect(await openTransactions()).toBe(1);
  await publisher.query('commit');
  await until(async () => (await sluice.stream('shared').info())?.head === 3n);
  expect((await valuesIn(sluice, 'shared')).at(-1)).toEqual('first written');
});

test('I1 I7: a stream held by an open append delays no other stream, and its own only until it is let go', async () => {
  await using sluice = await open({ appendTimeoutMs: 100 });
  await using holder = await openClient(db.connectionString);
  await sluice.createStream('held');
  await holder.query('begin');
  await holder.query('select sluice.append($1, $2)', ['held', '{"value":"of the holder"}']);
  await sluice.stream('held').publish({ value: 'published meanwhile' });
  await deliver(sluice, 'not held');
  await expect(sluice.stream('held').append({ value: 'refused' })).rejects.toMatchObject({
    code: 'overloaded',
    retryable: true,
  });
  await deliver(sluice, 'not held');
  // In one call with it, too: what is held is left out, and nothing waits while holding something else.
  const refused = sluice.stream('held').append({ value: 'refused' });
  const others = [1, 2, 3].map((n) => sluice.stream(`beside ${n}`).append({ value: n }));
  await Promise.all([expect(refused).rejects.toMatchObject({ code: 'overloaded' }), ...others]);
  expect(await valuesIn(sluice, 'held')).toEqual([]);
  expect(await openTransactions()).toBe(1);
  await holder.query('commit');
  await deliver(sluice, 'held');
  expect((await valuesIn(sluice, 'held')).slice(0, 2)).toEqual(['of the holder', 'published meanwhile']);
});

test('I1 I7: a stream that is being created in an open transaction delays no other stream', async () => {
  await using sluice = await open({ appendTimeoutMs: 100 });
  await using creator = await openClient(db.connectionString);
  await creator.query('begin');
  await creator.query('select sluice.append($1, $2)', ['unborn', '{"value":"of the creator"}']);
  await sluice.stream('unborn').publish({ value: 'published meanwhile' });
  await deliver(sluice, 'beside the unborn');
  await expect(sluice.stream('unborn').append({ value: 'refused' })).rejects.toMatchObject({
    code: 'overloaded',
  });
  await deliver(sluice, 'beside the unborn');
  expect(await openTransactions()).toBe(1);
  await creator.query('commit');
  await until(async () => (await sluice.stream('unborn').info())?.head === 2n);
  expect(await valuesIn(sluice, 'unborn')).toEqual(['of the creator', 'published meanwhile']);
});

test('I7: appends that wait for held streams do not keep waiting one that was held for an instant', async () => {
  await using sluice = await open({ appendTimeoutMs: 60_000 });
  const names = ['long 1', 'long 2', 'long 3', 'briefly'];
  const holders = await Promise.all(names.map(() => openClient(db.connectionString)));
  try {
    for (const [index, name] of names.entries()) {
      await sluice.createStream(name);
      await holders[index]!.query('begin');
      await holders[index]!.query('select sluice.append($1, $2)', [name, '0']);
    }
    const long = names.slice(0, 3).map((name) => sluice.stream(name).append(1));
    await until(async () => (await waitingForLocks(db.pool)) === 2);
    const tried = nextMessage('sluice:append.committed');
    let offset = 0n;
    const briefly = sluice
      .stream('briefly')
      .append(1)
      .then((appended) => (offset = appended.offset));
    await tried;
    await holders[3]!.query('commit');
    await until(() => offset === 2n);
    expect(await openTransactions()).toBe(3);
    for (const holder of holders.slice(0, 3)) await holder.query('commit');
    await Promise.all([...long, briefly]);
  } finally {
    await Promise.all(holders.map((holder) => holder.end()));
  }
});

test('I4: events arrive through another process while the holder of the relay role is stopped', async () => {
  await using frozen = await SluiceProcess.start({ connectionString: db.connectionString, ...quick });
  await until(() => frozen.holdsRole);
  frozen.stop();
  await using sluice = await open({ relay: false });
  await deliver(sluice, 'past a frozen relay');
  await deliver(sluice, 'past a frozen relay');
  frozen.resume();
  await frozen.close();
});
