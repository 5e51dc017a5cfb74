-- Hands dead letters out again, as if they had never failed: of the offsets given, or the first of all (null), up to p_limit.
-- Those whose event the log has let go of stay where they are. Returns how many went.
--
-- Of those that were given up before the group was moved, some are handed out again for that: behind the group's place, under
-- a lease, or waiting. These only go, lest two have one event in hand. Holds the group, so that nothing is handed out
-- meanwhile. A lease may be settled meanwhile: what it gives up has a letter of now, which goes as any other.
create or replace function :"schema".requeue_dead(p_group bigint, p_offsets bigint[] default null, p_limit integer default 1000)
returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_trimmed bigint;
  v_sought timestamptz;
  v_offsets bigint[];
  v_again int8multirange := '{}'; -- what comes again as it is
  v_count bigint;
begin
  perform from :"schema".groups g where g.id = p_group for no key update;
  select s.trimmed_to, g.sought_at into v_trimmed, v_sought
  from :"schema".groups g join :"schema".streams s on s.id = g.stream_id where g.id = p_group;
  -- The first ones by the index, and each of them looked up by itself: no plan may read all that the group has, which may
  -- be a million.
  v_offsets := coalesce(p_offsets, array(
    select d."offset" from :"schema".dead_letters d
    where d.group_id = p_group and d."offset" > v_trimmed order by d."offset" limit p_limit));
  if exists (
      select from unnest(v_offsets) o (n) cross join lateral (
        select from :"schema".dead_letters d where d.group_id = p_group and d."offset" = o.n and d.died_at <= v_sought offset 0
      ) d) then
    select range_agg(w.r) into v_again from (
      select int8range(t.at + 1, null) as r from (
        select x."offset" as at from :"schema".group_states x where x.group_id = p_group order by x.seq desc limit 1
      ) t
      union all
      select unnest(l.open) from :"schema".leases l where l.group_id = p_group
      union all
      select unnest(p.events) from :"schema".pieces p where p.group_id = p_group
    ) w;
  end if;
  with chosen as materialized (
    select d."offset" from (select distinct n from unnest(v_offsets) n where n > v_trimmed order by n) o
    cross join lateral (
      select x."offset" from :"schema".dead_letters x where x.group_id = p_group and x."offset" = o.n for update skip locked
    ) d limit p_limit
  ), gone as (
    delete from :"schema".dead_letters d using chosen c
    where d.group_id = p_group and d."offset" = any (v_offsets) and d."offset" = c."offset" returning d.*
  ), requeued as (
    insert into :"schema".pieces (group_id, events, due_at, attempts, strikes, suspect, partition, key_hash)
    select p_group, int8multirange(int8range(g."offset", g."offset" + 1)),
      case when g.partition is null then clock_timestamp() else '-infinity' end, 0, 0, false, g.partition,
      case when g.partition is not null then :"schema".key_hash(g.key, g."offset") end
    from gone g where not (v_again @> g."offset" and g.died_at <= v_sought)
  )
  select count(*) into v_count from gone g;
  return v_count;
end
$$;
