// Guards the example of docs/sql.md that turns a table's changes into events: run as it stands there, it gives one event
// per change, in order, with the primary key as key; and a change that is rolled back gives none.
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { fencesOf } from '../support/fences.ts';
import { passAll } from '../support/log-sql.ts';
import { root } from '../support/tidy/files.ts';

const db = useDatabase();

test('I3: the trigger of the documents publishes inserts, updates and deletes', async () => {
  const fences = fencesOf({ path: 'docs/sql.md', text: readFileSync(`${root}docs/sql.md`, 'utf8') });
  await db.query(fences.find(({ text }) => text.includes('create trigger'))!.text);
  await db.query(`begin; insert into products values (2, 'cup', 4); rollback`);
  await passAll(db);
  const { rows } = await db.query(
    `select e.type, e.key, e.data from sluice.events e join sluice.streams s on s.id = e.stream_id
     where s.name = 'products' order by e."offset"`,
  );
  const kettle = (price: number): object => ({ id: 1, name: 'kettle', price });
  expect(rows).toEqual([
    { type: 'product.insert', key: '1', data: { before: null, after: kettle(30) } },
    { type: 'product.update', key: '1', data: { before: kettle(30), after: kettle(25) } },
    { type: 'product.delete', key: '1', data: { before: kettle(25), after: null } },
  ]);
});
