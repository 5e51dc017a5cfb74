-- Removes dead letters of a group: of the offsets given, or all (null), up to p_limit. Returns how many.
create or replace function :"schema".drop_dead(p_group bigint, p_offsets bigint[] default null, p_limit integer default 1000)
returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_count bigint;
begin
  delete from :"schema".dead_letters d where d.group_id = p_group and d."offset" in (
    select x."offset" from :"schema".dead_letters x
    where x.group_id = p_group and (p_offsets is null or x."offset" = any (p_offsets)) order by x."offset" limit p_limit
  );
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
