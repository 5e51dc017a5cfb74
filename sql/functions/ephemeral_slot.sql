-- The slot that ephemerals are written to now: each of the three has ten seconds at a time.
create or replace function :"schema".ephemeral_slot() returns smallint
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select (floor(extract(epoch from clock_timestamp()) / 10)::bigint % 3)::smallint
$$;
