-- Whether there is something to be had now of these partitions of a keyed group: of what was dealt out, or went back. Null
-- without partitions, and then nothing is looked at.
create or replace function :"schema".waits_in(p_group bigint, p_partitions integer[], p_now timestamptz) returns boolean
language plpgsql stable strict
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
begin
  return exists (
    select from (
      select x.low, x.due_low from :"schema".group_states x where x.group_id = p_group order by x.seq desc limit 1
    ) t cross join lateral :"schema".due_rows(p_group, p_now, coalesce(t.low, 0), coalesce(t.due_low, '-infinity')) p
    where p.partition = any (p_partitions));
end
$$;
