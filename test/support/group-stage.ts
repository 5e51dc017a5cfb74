// Owns what tests of consumers in other processes have in common: the table their handlers write to, events that are
// published and appended meanwhile, faults that befall consumers and backends, and the record of what became of it all.
import type { Pool } from 'pg';
import { ConsumerProcess, type Settings } from './consumer-process.ts';
import { until } from './diagnostics.ts';
import type { Effect, GroupHistory, GroupRecord, LogEntry } from './group-history.ts';
import type { Random } from './seed.ts';

export const createEffects = async (pool: Pool): Promise<void> => {
  await pool.query(
    `create table effects (seq bigserial primary key, grp text not null, "offset" bigint not null, key text,
       attempt integer not null, pid integer not null, saw bigint);
     create index on effects (grp, key, "offset")`,
  );
};

/** Publishes and appends so many events, a few at a time, with one of so many keys each, or none. */
export async function write(
  pool: Pool,
  { stream, random, count, keys }: { stream: string; random: Random; count: number; keys: number },
): Promise<void> {
  for (let left = count; left > 0;) {
    const now = Math.min(left, 1 + random.below(10));
    const names = Array.from({ length: now }, () =>
      random.chance(0.1) ? null : `key ${random.below(keys)}`,
    );
    const way = random.chance(0.5) ? 'publish' : 'append';
    await pool.query(`select sluice.${way}($1, '{}', p_key => k) from unnest($2::text[]) k`, [stream, names]);
    await pool.query('select pg_sleep($1)', [random.next() * 0.12]);
    left -= now;
  }
}

/** Consumers that come back when they are killed. */
export class Consumers implements AsyncDisposable {
  readonly #places: { process: ConsumerProcess; settings: Settings }[];

  constructor(settings: readonly Settings[]) {
    this.#places = settings.map((each) => ({ settings: each, process: new ConsumerProcess(each) }));
  }

  async ready(): Promise<void> {
    await Promise.all(this.#places.map(({ process }) => process.says('ready')));
  }

  /** Starts those again that killed themselves; how many there were. @throws Error if one failed */
  revive(): number {
    const ended = this.#places.filter(({ process }) => process.isOver);
    for (const place of ended) place.process = new ConsumerProcess(place.settings);
    return ended.length;
  }

  async killOne(random: Random): Promise<void> {
    const place = random.pick(this.#places);
    await place.process.kill();
    place.process = new ConsumerProcess(place.settings);
  }

  async stopOne(random: Random, pool: Pool, seconds: number): Promise<void> {
    const { process } = random.pick(this.#places);
    process.stop();
    await pool.query('select pg_sleep($1)', [seconds]);
    process.resume();
  }

  async close(): Promise<void> {
    await Promise.all(this.#places.map(({ process }) => process.close()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#places.map(({ process }) => process.kill()));
  }
}

/** Faults of every kind, one after the other in a random order, so many times each. */
export async function disturb(
  pool: Pool,
  {
    consumers,
    random,
    leaseMs,
    times,
  }: { consumers: Consumers; random: Random; leaseMs: number; times: number },
): Promise<void> {
  const kinds = {
    kill: async () => consumers.killOne(random),
    stop: async () => consumers.stopOne(random, pool, (random.next() * 2 * leaseMs) / 1000),
    cut: async () => killBackends(pool, random),
  };
  for (let left = Array.from({ length: times }, () => Object.values(kinds)).flat(); left.length > 0;) {
    await pool.query('select pg_sleep($1)', [random.next() * 0.2]);
    consumers.revive(); // throws for one that failed by itself
    const fault = random.pick(left);
    await fault();
    left = left.toSpliced(left.indexOf(fault), 1);
  }
}

/** Ends two backends of consumers; not before there are some. */
const killBackends = (pool: Pool, random: Random): Promise<void> =>
  until(
    async () => {
      const { rowCount } = await pool.query(
        `select pg_terminate_backend(pid) from (
           select pid from pg_stat_activity where datname = current_database()
             and application_name in ('sluice', 'sluice listener', 'handler') order by md5(pid::text || $1) limit 2
         ) x`,
        [String(random.next())],
      );
      return rowCount === 2;
    },
    { deadlineMs: 60_000 },
  );

/** Looks until the signal for events that stand in two places at once: leases, and what waits to be handed out. */
export async function watchShared(
  pool: Pool,
  signal: AbortSignal,
): Promise<GroupHistory['shared'][number][]> {
  const shared: GroupHistory['shared'][number][] = [];
  while (!signal.aborted) {
    const { rows } = await pool.query<{ group: string; offsets: string }>(
      `with place as materialized (
         select 'lease ' || token || ' ' || n as id, group_id, open as events from sluice.leases where not isempty(open)
         union all select 'piece ' || id, group_id, events from sluice.pieces
       )
       select g.name as "group", (a.events * b.events)::text || ' ' || a.id || ' ' || b.id as offsets
       from place a join place b on a.group_id = b.group_id and a.id < b.id and a.events && b.events
       join sluice.groups g on g.id = a.group_id
       union all -- and for what nobody would look for any more
       select g.name, p.events::text || ' piece ' || p.id || ' before ' || t.low
       from sluice.pieces p join sluice.groups g on g.id = p.group_id
       cross join lateral (select x.low from sluice.group_states x where x.group_id = g.id order by x.seq desc limit 1) t
       where p.due_at = 'epoch' and p.first_offset < t.low
       union all
       select g.name, l.open::text || ' lease ' || l.token || ' not held'
       from sluice.leases l join sluice.groups g on g.id = l.group_id
       cross join lateral (select x.held from sluice.group_states x where x.group_id = g.id order by x.seq desc limit 1) t
       where l.partition is not null and l.token <> all (t.held)
       limit 10`,
    );
    shared.push(...rows);
    await pool.query('select pg_sleep(0.02)');
  }
  return shared;
}

/** Resolves when so many groups have handled, or given up, all that is in the stream and on its way there. */
export const handled = (
  pool: Pool,
  { stream, groups, deadlineMs = 90_000 }: { stream: string; groups: number; deadlineMs?: number },
): Promise<void> =>
  until(
    async () => {
      const { rows } = await pool.query<{ groups: number; left: string }>(
        `select count(*)::integer as groups, (select count(*) from sluice.outbox) + coalesce(sum(t.lag), 0) as left
         from sluice.groups g join sluice.streams s on s.id = g.stream_id, sluice.group_stats(g.id) t where s.name = $1`,
        [stream],
      );
      return rows[0]?.left === '0' && rows[0].groups === groups;
    },
    { deadlineMs },
  );

type Promised = Pick<GroupRecord, 'name' | 'promise' | 'ordered'>;

export async function groupHistory(
  pool: Pool,
  { stream, groups, shared }: { stream: string; groups: readonly Promised[]; shared: GroupHistory['shared'] },
): Promise<GroupHistory> {
  const log = await pool.query<{ offset: string; key: string | null }>(
    `select "offset"::text, key from sluice.events e join sluice.streams s on s.id = e.stream_id
     where s.name = $1 order by e."offset"`,
    [stream],
  );
  const dead = await pool.query<{ name: string; offset: string }>(
    'select g.name, d."offset"::text from sluice.dead_letters d join sluice.groups g on g.id = d.group_id',
  );
  const effects = await pool.query<{
    grp: string;
    seq: number;
    offset: string;
    key: string | null;
    saw: string | null;
  }>('select grp, seq::integer, "offset"::text, key, saw::text from effects');
  const effectsOf = (name: string): Effect[] =>
    effects.rows
      .filter(({ grp }) => grp === name)
      .map(({ seq, offset, key, saw }) => ({
        seq,
        offset: BigInt(offset),
        key,
        saw: saw === null ? null : BigInt(saw),
      }));
  return {
    log: log.rows.map(({ offset, key }): LogEntry => ({ offset: BigInt(offset), key })),
    groups: groups.map((group) => ({
      ...group,
      effects: effectsOf(group.name),
      dead: dead.rows.filter(({ name }) => name === group.name).map(({ offset }) => BigInt(offset)),
    })),
    shared,
  };
}
