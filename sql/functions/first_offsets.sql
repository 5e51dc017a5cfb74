-- The first p_count offsets of a set.
create or replace function :"schema".first_offsets(p_events int8multirange, p_count bigint) returns int8multirange
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(range_agg(int8range(lower(x.r), least(upper(x.r), lower(x.r) + p_count - x.before))), '{}')
  from (
    select r, coalesce(sum(upper(r) - lower(r))
      over (order by r rows between unbounded preceding and 1 preceding), 0)::bigint as before
    from unnest(p_events) r
  ) x where x.before < p_count
$$;
