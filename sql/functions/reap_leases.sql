-- Takes back what is left of a group's expired leases, up to p_limit of them; the caller holds the group. Due at once.
-- Returns how many events were given up. What somebody is acknowledging in an open transaction is locked, and left for the
-- next time.
--
-- An event that was alone in its lease has a strike, and is given up after p_max_attempts; among others, nobody knows
-- whose fault it was: the first, most likely the one in hand, then stands alone, and the rest in two halves, until the
-- culprit is found. Slow handlers have many leases of one event: where more than a few of those expire together, it is
-- hardly the fault of each (their consumers lost the database, or one of them had them all in hand), and if none is
-- suspect yet they are two halves as well. Not in keyed groups.
create or replace function :"schema".reap_leases(p_group bigint, p_max_attempts integer, p_limit integer default 500)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  c_few constant integer := 10;
  v_now timestamptz := clock_timestamp(); -- a clock that goes on from row to row would have all leases looked at
  v_tokens uuid[];
  v_row record;
  v_dead bigint := 0;
begin
  v_tokens := array(
    select distinct x.token from (
      select l.token from :"schema".leases l where l.group_id = p_group and l.expires_at <= v_now
      order by l.expires_at limit p_limit for update skip locked
    ) x);
  if cardinality(v_tokens) = 0 then
    return 0;
  end if;
  -- A lease of several rows whose others are locked is not whole yet.
  v_tokens := array(
    with held as materialized (
      select l.token from :"schema".leases l where l.token = any (v_tokens) for update skip locked
    )
    select h.token from held h group by h.token
    having count(*) = (select count(*) from :"schema".leases l where l.token = h.token));
  -- Later statements: they see what was acknowledged before the locks were to be had.
  for v_row in
    with acked as materialized (
      select a.token, range_agg(r) as events from :"schema".acks a cross join lateral unnest(a.events) r
      where a.token = any (v_tokens) group by a.token
    ), gone as (
      delete from :"schema".leases l where l.token = any (v_tokens) returning l.*
    ), rest as materialized (
      select x.*, sum(x.size) over (partition by x.token) as lot from (
        select g.*, o.rest, (select sum(upper(r) - lower(r)) from unnest(o.rest) r) as size
        from gone g left join acked a on a.token = g.token
        cross join lateral (select g.open - coalesce(a.events, '{}') as rest) o
      ) x where not isempty(x.rest)
    ), alone as materialized (
      select t.*, lower(t.rest) as first, count(*) over w as others, row_number() over (w order by lower(t.rest)) as nth
      from (select r.*, r.strikes = 0 and not r.suspect and r.partition is null as fresh from rest r where r.lot = 1) t
      window w as (partition by t.fresh, t.attempts)
    ), part as (
      select int8multirange(h) as events, t.attempts, t.strikes, t.partition
      from rest t cross join lateral (
        select int8range(lower(t.rest), lower(t.rest) + 1)
        union all
        select h.* from unnest(t.rest - int8multirange(int8range(lower(t.rest), lower(t.rest) + 1))) r
        cross join lateral unnest(array[
          int8range(lower(r), (lower(r) + upper(r)) / 2), int8range((lower(r) + upper(r)) / 2, upper(r))]) h
      ) s (h) where t.lot > 1 and not isempty(h)
      union all
      select range_agg(int8range(t.first, t.first + 1)), t.attempts, 0, null
      from alone t where t.fresh and t.others > c_few group by t.attempts, t.nth * 2 > t.others
    ), parted as (
      insert into :"schema".pieces (group_id, events, due_at, attempts, strikes, suspect, partition)
      -- In a partition, no clock may put it behind what comes after it.
      select p_group, p.events, case when p.partition is null then v_now else '-infinity' end,
        p.attempts, p.strikes, true, p.partition
      from part p
    )
    -- In no order: who is handed one after the other may die of the second before it has told that the first is done, and
    -- that would be struck for its neighbour, time after time.
    select t.* from alone t where not (t.fresh and t.others > c_few) order by random()
  loop
    if :"schema".fail_event(p_group, v_row.first, v_row.attempts, v_row.strikes, v_row.partition,
        'the lease expired: its consumer died, stopped or could not reach the database', null, p_max_attempts, 0, 0) then
      v_dead := v_dead + 1;
    end if;
  end loop;
  delete from :"schema".acks a where a.token = any (v_tokens);
  return v_dead;
end
$$;
