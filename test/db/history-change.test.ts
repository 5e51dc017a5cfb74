// Guards I8: history that is gone, or is another one, is thrown at the reader with the place where it can go on, on
// resume as well as under a live subscription. It is never skipped in silence.
import { connect } from 'sluice';
import { expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';

const db = useDatabase();

test('I8: an offset the stream has not reached is another history', async () => {
  await using sluice = await connect({ connectionString: db.connectionString });
  await sluice.stream('short').append(1);
  await expect(sluice.stream('short').read({ after: 2n })).rejects.toMatchObject({
    code: 'cursor_reset',
    oldest: 1n,
  });
});
