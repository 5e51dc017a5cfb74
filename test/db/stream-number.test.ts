// Guards the isolation of streams across a failover that lost the creation of one: its number is given to another
// stream, and a reader of the one, who knows it by that number, must never be handed the other's events. An empty stream
// is the hard case, as it has no tag yet that would tell.
import { connect, type ConnectOptions, type Sluice } from 'sluice';
import { expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { Following } from '../support/following.ts';

const db = useDatabase();
const open = (options: ConnectOptions = {}): Promise<Sluice> =>
  connect({ connectionString: db.connectionString, fallbackPollMs: 600_000, ...options });

let count = 0;
/** Somebody who follows an empty stream whose number is another stream's then. */
const failedOver = async (
  sluice: Sluice,
): Promise<{ theirs: string; told: Promise<unknown>; following: Following }> => {
  const [ours, theirs] = [`ours ${(count += 1)}`, `theirs ${count}`];
  await sluice.createStream(ours);
  const following = new Following(sluice, ours, 'start');
  await following.ready;
  const told = following.next(1).catch((error: unknown) => error);
  await db.query('update sluice.streams set name = $2 where name = $1', [ours, theirs]);
  return { theirs, told, following };
};
const gone = { code: 'stream_not_found', message: expect.stringMatching(/"ours \d" was deleted/) };

test('interleaving 30: appended to by another process', async () => {
  await using sluice = await open();
  await using elsewhere = await open();
  const { theirs, told } = await failedOver(sluice);
  await elsewhere.stream(theirs).append('not yours');
  expect(await told).toMatchObject(gone);
});

test('interleaving 30: appended to by the same process, which feeds its readers without a read', async () => {
  await using sluice = await open();
  const { theirs, told } = await failedOver(sluice);
  await sluice.stream(theirs).append('not yours');
  expect(await told).toMatchObject(gone);
});

test('interleaving 30: followed in the same process, which has both at once', async () => {
  await using sluice = await open();
  const { theirs, told } = await failedOver(sluice);
  await using following = new Following(sluice, theirs, 'start');
  await following.ready;
  expect(await told).toMatchObject(gone);
  await sluice.stream(theirs).append('mine');
  expect(await following.next(1)).toEqual(['1 mine']);
});

test('interleaving 30: found by the poll alone', async () => {
  await using sluice = await open({ fallbackPollMs: 30 });
  const { theirs, told } = await failedOver(sluice);
  await db.query('select sluice.publish($1, $2)', [theirs, '"not yours"']);
  expect(await told).toMatchObject(gone);
});
