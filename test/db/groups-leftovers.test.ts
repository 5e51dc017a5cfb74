// Guards that nothing stays behind of what is over in a group (I7): one that was deleted, leases that a seek has ended, a
// claim that nobody waits for any more.
import { connect, type Sluice, type Stream } from 'sluice';
import { afterAll, beforeAll, expect, test, onTestFinished } from 'vitest';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { fill } from '../support/filled.ts';
import { gatedSchema } from '../support/payload-schemas.ts';

const db = useDatabase();
let sluice: Sluice;
beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString, fallbackPollMs: 200 });
});
afterAll(async () => sluice.close());

/** How many rows there are of a lease: its own, and of what was acknowledged of it. */
const leftOf = async (token: string): Promise<number> => {
  const { rows } = await db.query(
    `select (select count(*) from sluice.leases where token = $1)::int
       + (select count(*) from sluice.acks where token = $1)::int as left`,
    [token],
  );
  return Number(rows[0]?.['left']);
};

const tokenOf = async ({ name }: Stream<number>): Promise<string> => {
  const { rows } = await db.query<{ token: string }>(
    `select l.token from sluice.leases l join sluice.groups g on g.id = l.group_id
     join sluice.streams s on s.id = g.stream_id where s.name = $1`,
    [name],
  );
  return rows[0]?.token ?? '';
};

test('what is left of a deleted group, and of those of a deleted stream, is removed', async () => {
  const [stream, doomed] = [await fill(sluice, 6), await fill(sluice, 6)];
  for (const each of [stream, doomed]) {
    const group = each.group('g', { maxAttempts: 1 });
    await group.claim({ max: 2 });
    const lease = await group.claim({ max: 2 });
    await lease?.ack({ failed: [{ offset: 3n, error: 'x' }] });
    await (await group.claim())?.release();
  }
  expect(await stream.group('g').delete()).toBe(true);
  expect(await stream.group('g').delete()).toBe(false);
  await sluice.deleteStream(doomed.name);
  const kept = `exists (select from sluice.groups g where g.id = x.group_id)`;
  await until(async () => {
    const counts = ['leases', 'pieces', 'dead_letters', 'group_states', 'members', 'group_purges'].map(
      (table) => `(select count(*) from sluice.${table} x where not ${kept})`,
    );
    const { rows } = await db.query(`select (${counts.join(' + ')})::int as left`);
    return rows[0]?.['left'] === 0;
  });
});

/** A group with one event, which an open transaction has acknowledged. */
async function acknowledging() {
  const stream = await fill(sluice, 1);
  const group = stream.group('g');
  await group.claim();
  const token = await tokenOf(stream);
  const handler = await openClient(db.connectionString);
  onTestFinished(() => handler.end());
  await handler.query('begin');
  await handler.query(`select sluice.ack_events($1, '{[1,2)}')`, [token]);
  return { group, token, handler };
}

test('I4 I7: what removes a deleted group waits for no transaction that acknowledges, and leaves nothing of it', async () => {
  const { group, token, handler } = await acknowledging();
  await group.delete();
  for (let polls = 0; polls < 3; polls += 1) await nextMessage('sluice:poll.finished');
  await handler.query('commit');
  await until(async () => (await leftOf(token)) === 0);
});

test('I7: a seek leaves nothing of an acknowledgement that commits meanwhile', async () => {
  const { group, token, handler } = await acknowledging();
  const sought = group.seek('start');
  await until(async () => {
    const { rowCount } = await db.query(
      `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like '%seek_group%'`,
    );
    return rowCount === 1;
  });
  await handler.query('commit');
  await sought;
  expect(await leftOf(token)).toBe(0);
  expect((await group.claim())?.events).toMatchObject([{ data: 1 }]);
});

test('I5: a claim that is aborted while a schema is asked gives back what it took, uncounted', async () => {
  const gate = gatedSchema();
  const stream = sluice.stream('claimed in vain', { schema: gate.schema, validateOnRead: true });
  await sluice.stream(stream.name).append('a');
  const aborting = new AbortController();
  const claiming = stream.group('g').claim({ signal: aborting.signal });
  await gate.asked('a');
  aborting.abort(new Error('enough'));
  await expect(claiming).rejects.toThrow('enough');
  gate.answer('a');
  await until(async () => (await stream.group('g').claim())?.attempt(1n) === 1);
});

test('I7: who says that it is there in a group that was deleted meanwhile leaves no word of it', async () => {
  const stream = await fill(sluice, 1);
  const group = stream.group('g');
  await group.stats();
  const { rows } = await db.query<{ id: string }>('select max(id)::text as id from sluice.groups');
  const id = rows[0]?.id;
  await group.delete();
  await db.query('select sluice.renew_member($1, gen_random_uuid(), 60000)', [id]);
  expect((await db.query('select from sluice.members where group_id = $1', [id])).rowCount).toBe(0);
});
