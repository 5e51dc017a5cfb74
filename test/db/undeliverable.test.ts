// Guards what could not be delivered: listed in order whatever its number (I3).
import { connect, type Sluice } from 'sluice';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';

const db = useDatabase();
let sluice: Sluice;
beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString, relay: false, fallbackPollMs: 600_000 });
});
afterAll(() => sluice.close());
beforeEach(async () => {
  await db.query('truncate sluice.undeliverable restart identity');
});

const listed = async (): Promise<string[]> => {
  const ids: string[] = [];
  for await (const { id } of sluice.undeliverable()) ids.push(id);
  return ids;
};
const numbers = (from: number, to: number): string[] =>
  Array.from({ length: to - from + 1 }, (_, index) => String(from + index));
const insert = (count: number): string =>
  `insert into sluice.undeliverable (reason, published_at, stream_id, stream, data)
   select 'stream_deleted', now(), 1, 'gone', to_json(n) from generate_series(1, ${count}) n`;

test('I3: all of them are listed, oldest first, however many', async () => {
  await db.query(insert(1200));
  expect(await listed()).toEqual(numbers(1, 1200));
});
