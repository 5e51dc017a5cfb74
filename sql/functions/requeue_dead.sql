-- Hands dead letters out again, as if they had never failed: of the offsets given, or the first of all (null), up to p_limit.
-- Those whose event the log has let go of stay where they are. Returns how many went.
create or replace function :"schema".requeue_dead(p_group bigint, p_offsets bigint[] default null, p_limit integer default 1000)
returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_trimmed bigint;
  v_offsets bigint[];
  v_count bigint;
begin
  select s.trimmed_to into v_trimmed
  from :"schema".groups g join :"schema".streams s on s.id = g.stream_id where g.id = p_group;
  -- The first ones by the index, and each of them looked up by itself: no plan may read all that the group has, which may
  -- be a million.
  v_offsets := coalesce(p_offsets, array(
    select d."offset" from :"schema".dead_letters d
    where d.group_id = p_group and d."offset" > v_trimmed order by d."offset" limit p_limit));
  with chosen as materialized (
    select d."offset" from (select distinct n from unnest(v_offsets) n where n > v_trimmed order by n) o
    cross join lateral (
      select x."offset" from :"schema".dead_letters x where x.group_id = p_group and x."offset" = o.n for update skip locked
    ) d limit p_limit
  ), gone as (
    delete from :"schema".dead_letters d using chosen c
    where d.group_id = p_group and d."offset" = any (v_offsets) and d."offset" = c."offset" returning d.*
  )
  insert into :"schema".pieces (group_id, events, due_at, attempts, strikes, suspect, partition, key_hash)
  select p_group, int8multirange(int8range(g."offset", g."offset" + 1)),
    case when g.partition is null then clock_timestamp() else '-infinity' end, 0, 0, false, g.partition,
    case when g.partition is not null then :"schema".key_hash(g.key, g."offset") end
  from gone g;
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
