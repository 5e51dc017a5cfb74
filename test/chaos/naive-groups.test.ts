// The control of the tests of groups: consumers as many products ship them, on the same log, judged by the same judge.
// It must be found that they lose, double and reorder, or the judge proves nothing.
import { beforeAll, expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { checkGroups, type GroupRecord } from '../support/group-history.ts';
import { createEffects, groupHistory, watchShared } from '../support/group-stage.ts';

const db = useDatabase();
beforeAll(async () => {
  await createEffects(db.pool);
  await db.query(
    `select sluice.append('work', '{}', p_key => k) from unnest(array['a', 'b', 'a', 'b', 'a', 'b']) k;
     create table jobs (grp text, "offset" bigint, key text, reserved_until timestamptz, primary key (grp, "offset"));
     insert into jobs select g, e."offset", e.key from sluice.events e, unnest(array['reserved', 'cursor']) g`,
  );
});

const rulesOf = async (group: Pick<GroupRecord, 'name' | 'promise' | 'ordered'>): Promise<Set<string>> => {
  const history = await groupHistory(db.pool, { stream: 'work', groups: [group], shared: [] });
  return new Set(checkGroups(history).map(({ rule }) => rule));
};

const effect = async (group: string, { offset, key }: { offset: string; key: string }): Promise<void> => {
  await db.query(
    `insert into effects (grp, "offset", key, attempt, pid, saw)
     select $1, $2, $3, 1, 0, (select max("offset") from effects where grp = $1 and key = $3)`,
    [group, offset, key],
  );
};

interface Job {
  readonly offset: string;
  readonly key: string;
}

test('reserved until a time, and acknowledged by number: doubled, and out of order', async () => {
  const reserve = async (seconds: number): Promise<Job | undefined> => {
    const { rows } = await db.query<Job>(
      `update jobs set reserved_until = clock_timestamp() + make_interval(secs => $1)
       where grp = 'reserved' and "offset" = (
         select "offset" from jobs where grp = 'reserved' and coalesce(reserved_until < clock_timestamp(), true)
         order by "offset" limit 1 for update skip locked
       ) returning "offset"::text, key`,
      [seconds],
    );
    return rows[0];
  };
  const finish = async (job: Job): Promise<void> => {
    await effect('reserved', job);
    await db.query(`delete from jobs where grp = 'reserved' and "offset" = $1`, [job.offset]);
  };
  const stopped = await reserve(0); // and past its time when it goes on
  for (let job = await reserve(60); job !== undefined; job = await reserve(60)) await finish(job);
  await finish(stopped!);
  const rules = await rulesOf({ name: 'reserved', promise: 'exactly once', ordered: true });
  expect(rules).toEqual(new Set(['I5 doubled', 'I6 order']));
});

test('a cursor that moves when events are handed out: what a consumer that dies had is lost', async () => {
  for (let next = 1; next <= 6; next += 1) {
    const { rows } = await db.query<Job>(
      `delete from jobs where grp = 'cursor' and "offset" = $1 returning "offset"::text, key`,
      [next],
    );
    if (next !== 3) await effect('cursor', rows[0]!); // who had the third died
  }
  expect(await rulesOf({ name: 'cursor', promise: 'at least once', ordered: false })).toEqual(
    new Set(['I5 lost']),
  );
  expect(await rulesOf({ name: 'cursor', promise: 'exactly once', ordered: true })).toEqual(
    new Set(['I5 lost', 'I6 order']),
  );
});

test('two consumers of one key at a time: that the later one has not seen the earlier one is out of order', async () => {
  const [first, second] = await Promise.all([db.pool.connect(), db.pool.connect()]);
  for (const client of [first, second]) await client.query('begin');
  const insert = `insert into effects (grp, "offset", key, attempt, pid, saw)
    select 'beside', $1, 'a', 1, 0, (select max("offset") from effects where grp = 'beside' and key = 'a')`;
  await first.query(insert, [1]);
  await second.query(insert, [3]);
  for (const client of [first, second]) {
    await client.query('commit');
    client.release();
  }
  const rules = await rulesOf({ name: 'beside', promise: 'at least once', ordered: true });
  expect(rules).toContain('I6 order');
});

test('an event that is leased twice, or leased and waiting, is seen', async () => {
  await db.query(
    `insert into sluice.groups (stream_id, name) select id, 'twice' from sluice.streams;
     insert into sluice.leases (token, n, group_id, member, open, attempts, strikes, suspect, claimed_at, expires_at)
     select gen_random_uuid(), 0, g.id, gen_random_uuid(), open, 1, 0, false, now(), now()
     from sluice.groups g, unnest(array['{[1,3)}', '{[2,4)}']::int8multirange[]) open`,
  );
  const done = new AbortController();
  const watching = watchShared(db.pool, done.signal);
  done.abort(); // it has begun to look
  expect((await watching).map(({ group }) => group)).toEqual(['twice']);
  await db.query(
    `delete from sluice.leases where open @> 3::bigint;
     insert into sluice.pieces (group_id, events, due_at, attempts, strikes, suspect)
     select id, '{[1,2)}', now(), 1, 0, false from sluice.groups`,
  );
  const later = new AbortController();
  const again = watchShared(db.pool, later.signal);
  later.abort();
  expect((await again).map(({ offsets }) => offsets)).toEqual([expect.stringContaining('{[1,2)} lease')]);
});
