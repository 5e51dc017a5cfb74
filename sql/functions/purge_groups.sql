-- Removes up to p_limit rows of each kind of groups that were deleted, or whose stream was; whether there is more to do.
create or replace function :"schema".purge_groups(p_limit integer default 5000) returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
declare
  v_group bigint;
  v_table text;
  v_count bigint;
  v_total bigint := 0;
begin
  with orphan as (
    delete from :"schema".groups g where not exists (select from :"schema".streams s where s.id = g.stream_id) returning g.id
  )
  insert into :"schema".group_purges (group_id) select o.id from orphan o on conflict do nothing;
  select p.group_id into v_group from :"schema".group_purges p order by p.group_id limit 1 for update skip locked;
  if not found then
    return false;
  end if;
  delete from :"schema".acks a where a.token in (select l.token from :"schema".leases l where l.group_id = v_group);
  foreach v_table in array '{leases,pieces,dead_letters,group_states,members}'::text[] loop
    execute format('with doomed as (select x.ctid from %1$I.%2$I x where x.group_id = $1 limit $2)
      delete from %1$I.%2$I x using doomed d where x.ctid = d.ctid and x.group_id = $1', :'schema', v_table)
    using v_group, p_limit;
    get diagnostics v_count = row_count;
    v_total := v_total + v_count;
  end loop;
  if v_total = 0 then
    delete from :"schema".group_purges p where p.group_id = v_group;
  end if;
  return true;
end
$$;
