-- The time before which an event is older than p_max_age_ms; never before 1970, however large the age.
create or replace function :"schema".age_limit(p_max_age_ms bigint) returns timestamptz
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select to_timestamp(greatest(0, extract(epoch from clock_timestamp()) - p_max_age_ms / 1000.0))
$$;
