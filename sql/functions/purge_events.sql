-- Removes up to p_limit events of deleted streams. Returns how many; less than p_limit when nothing is left to remove
-- or somebody else is at it.
create or replace function :"schema".purge_events(p_limit integer default 5000) returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
declare
  v_stream_id bigint;
  v_removed bigint := 0;
  v_count bigint;
begin
  while v_removed < p_limit loop
    select p.stream_id into v_stream_id from :"schema".purges p order by p.at limit 1 for update skip locked;
    exit when not found;
    with victim as materialized (
      select e."offset" from :"schema".events e where e.stream_id = v_stream_id order by e."offset" limit p_limit - v_removed
    )
    delete from :"schema".events e using victim v where e.stream_id = v_stream_id and e."offset" = v."offset";
    get diagnostics v_count = row_count;
    v_removed := v_removed + v_count;
    if v_removed < p_limit then
      delete from :"schema".purges p where p.stream_id = v_stream_id;
    end if;
  end loop;
  return v_removed;
end
$$;
