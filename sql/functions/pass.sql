-- One pass: moves what is committed and pending into the logs, stream by stream, skipping streams that somebody else
-- holds. Safe from any number of processes at once: every truth is read under a stream's lock.
--
-- Returns one row:
--
--   stream_ids, heads   the streams that moved, and their heads: hints for readers
--   moved, refused      how many events moved, and how many are undeliverable, and listed as that
--   more                whether something is or may be left: a stream cut or skipped, or more streams than p_max_streams
--   next_after          give it as p_after, so that streams that are always held cannot starve those behind them
--   due_in_ms           until the next delayed event is due; null: there is none
--   due_from            give it as p_due_from, where the look for delayed events starts; but leave that out now and then,
--                       for a transaction may have stayed open past the time of its events
--   spent_ms            what it took of the server's time, before its commit
create or replace function :"schema".pass(
  p_limit integer default 10000,
  p_max_streams integer default 1000,
  p_after text default '',
  p_due_from timestamptz default '-infinity'
) returns table (
  stream_ids bigint[], heads bigint[], moved bigint, refused bigint, more boolean, next_after text,
  due_in_ms double precision, due_from timestamptz, spent_ms double precision
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off -- a plan that cannot do without what is off seems to cost so much that it would be compiled, each time
set plan_cache_mode = force_generic_plan
as $$
declare
  v_names text[];
  v_ids bigint[];
  v_name text;
  v_unlocked boolean;
  v_all boolean;
  v_locked text[];
  v_take integer;
  v_refused bigint := 0;
  v_more_due boolean;
  v_next_due timestamptz;
begin
  perform :"schema".require_read_committed();
  perform :"schema".flush_on_commit();
  select d.more, d.next_due into v_more_due, v_next_due from :"schema".move_due(p_due_from) d;
  due_in_ms := date_part('epoch', v_next_due - clock_timestamp()) * 1000;
  due_from := least(v_next_due, clock_timestamp() - interval '10 seconds');
  -- Which streams have something pending: a hint; the truth is read below, under each stream's lock. Mostly little is
  -- pending and one short look finds it all; past that, or when that is more than one pass takes, one probe per stream.
  select coalesce(array_agg(distinct o.stream), '{}'), count(*) <= 500 into v_names, v_all
  from (select o.stream from :"schema".outbox o limit 501) o;
  if cardinality(v_names) = 0 then
    return query
      select '{}'::bigint[], '{}'::bigint[], 0::bigint, 0::bigint, v_more_due, '', due_in_ms, due_from, 0::double precision;
    return;
  end if;
  v_all := v_all and cardinality(v_names) <= p_max_streams;
  if not v_all then
    with recursive dirty (name, n) as (
      (select o.stream, 1 from :"schema".outbox o where o.stream > p_after order by o.stream limit 1)
      union all
      (select d.following, d.n + 1 from (
        select (select o.stream from :"schema".outbox o where o.stream > dirty.name order by o.stream limit 1) as following,
          dirty.n from dirty where dirty.n <= p_max_streams
      ) d where d.following is not null)
    )
    select coalesce(array_agg(d.name order by d.n), '{}') into v_names from dirty d;
  end if;
  more := v_more_due or not v_all and p_after <> ''; -- the streams up to p_after were not looked at
  next_after := '';
  if cardinality(v_names) > p_max_streams then
    more := true;
    next_after := v_names[p_max_streams];
    v_names := v_names[:p_max_streams];
  end if;
  -- Each takes a lock until the commit, and all transactions of the cluster share the room for them.
  for v_name in
    select n from unnest(v_names) n where not exists (select from :"schema".streams s where s.name = n) limit 500
  loop
    -- Somebody may be creating it and refusing the rows of the one before: those rows are not waited for either.
    continue when not pg_try_advisory_xact_lock(:create_key, hashtext(v_name));
    v_refused := v_refused + :"schema".refuse_deleted(v_name);
    if exists (select from :"schema".outbox o where o.stream = v_name) then -- published by name alone
      perform :"schema".create_missing_stream(v_name);
    end if;
  end loop;
  -- One stream's lock is taken and never waited for, so no order of locks can deadlock.
  select coalesce(array_agg(l.id order by l.name), '{}'), coalesce(array_agg(l.name order by l.name), '{}') into v_ids, v_locked
  from (select s.id, s.name from :"schema".streams s where s.name = any (v_names) for no key update skip locked) l;
  v_unlocked := cardinality(v_ids) < cardinality(v_names);
  if not v_all then
    -- Of all of them about ten times what one stream may have moved: the streams are held until the pass ends, and one that
    -- takes longer than its user's statement_timeout is cancelled, and would be each time again.
    with recursive taken (n, before) as (
      select 1, 0::bigint
      union all
      select t.n + 1, t.before + (
        select count(*) from (select from :"schema".outbox o where o.stream = v_locked[t.n] limit p_limit) o
      ) from taken t where t.n <= cardinality(v_ids) and t.before < p_limit * 10::bigint
    )
    select max(t.n) into v_take from taken t where t.before < p_limit * 10::bigint;
    if v_take < cardinality(v_ids) then
      more := true;
      next_after := v_locked[v_take];
      v_ids := v_ids[:v_take];
    end if;
  end if;
  select coalesce(array_agg(m.stream_id) filter (where m.moved > 0), '{}'),
    coalesce(array_agg(m.head) filter (where m.moved > 0), '{}'),
    coalesce(sum(m.moved), 0)::bigint, v_refused + coalesce(sum(m.refused), 0)::bigint,
    pass.more or v_unlocked or coalesce(bool_or(m.more), false)
  into stream_ids, heads, moved, refused, more
  from :"schema".move_pending(v_ids, case when not v_all then p_limit end) m;
  spent_ms := date_part('epoch', clock_timestamp() - statement_timestamp()) * 1000;
  return next;
end
$$;
