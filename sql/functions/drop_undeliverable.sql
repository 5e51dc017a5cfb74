-- Removes what is listed as undeliverable: of the ids given, or the first of all (null), up to p_limit. Returns how many.
-- Rows are locked in the order of their ids, so that two calls at once wait for each other and never deadlock.
create or replace function :"schema".drop_undeliverable(p_ids bigint[] default null, p_limit integer default 1000)
returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_ids bigint[];
  v_count bigint;
begin
  v_ids := case when p_ids is null then array(
    select u.id from :"schema".undeliverable u order by u.id limit p_limit for update)
  else array(
    select u.id from :"schema".undeliverable u where u.id = any (p_ids) order by u.id limit p_limit for update)
  end;
  delete from :"schema".undeliverable u where u.id = any (v_ids);
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
