-- Removes dead letters of a group: of the offsets given, or the first of all (null), up to p_limit. Returns how many.
create or replace function :"schema".drop_dead(p_group bigint, p_offsets bigint[] default null, p_limit integer default 1000)
returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_offsets bigint[];
  v_count bigint;
begin
  v_offsets := case when p_offsets is null then array(
    select d."offset" from :"schema".dead_letters d where d.group_id = p_group order by d."offset" limit p_limit)
  else array(
    select d."offset" from :"schema".dead_letters d where d.group_id = p_group and d."offset" = any (p_offsets)
    order by d."offset" limit p_limit)
  end;
  delete from :"schema".dead_letters d where d.group_id = p_group and d."offset" = any (v_offsets);
  get diagnostics v_count = row_count;
  return v_count;
end
$$;
