// Guards one page of a stream as users read it: what follows which position, how much at most, and what is refused.
// Every page is judged against all that was appended, so nothing may be left out between two of them.
import { connect } from 'sluice';
import { expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';

const db = useDatabase();

test('an empty stream has head 0 and oldest 1', async () => {
  await using sluice = await connect({ connectionString: db.connectionString });
  await sluice.createStream('empty');
  expect(await sluice.stream('empty').read()).toMatchObject({
    events: [],
    head: 0n,
    oldest: 1n,
    upToDate: true,
  });
});
