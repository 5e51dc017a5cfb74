// Guards I2 for subscriptions in a process: replay and then live, each event once and in order, whoever writes and
// whatever breaks; and that a subscription ends cleanly however it is ended.
import { connect } from 'sluice';
import { expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';

const db = useDatabase();

test('I2: a stream that does not exist is refused by next() when nobody awaits ready', async () => {
  await using sluice = await connect({ connectionString: db.connectionString });
  const iterator = sluice.stream('unknown').subscribe()[Symbol.asyncIterator]();
  await expect(iterator.next()).rejects.toMatchObject({ code: 'stream_not_found' });
});
