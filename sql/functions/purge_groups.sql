-- Removes up to p_limit rows of each kind of a group that was deleted, or whose stream was. Returns whether there may be
-- more to do. Waits for nobody: a lease that a transaction is acknowledging is left to a later call, and the next group
-- has its turn.
create or replace function :"schema".purge_groups(p_limit integer default 5000) returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  c_groups constant integer := 100; -- looked at in one call, where all that is left of them is locked
  v_group bigint;
  v_table text;
  v_tokens uuid[];
  v_count bigint;
  v_total bigint;
begin
  with orphan as (
    delete from :"schema".groups g where not exists (select from :"schema".streams s where s.id = g.stream_id) returning g.id
  )
  insert into :"schema".group_purges (group_id) select o.id from orphan o on conflict do nothing;
  for v_group in
    select p.group_id from :"schema".group_purges p order by p.group_id limit c_groups for update skip locked
  loop
    with gone as (
      delete from :"schema".leases l where l.group_id = v_group and l.ctid = any (array(
        select x.ctid from :"schema".leases x where x.group_id = v_group limit p_limit for update skip locked
      )) returning l.token
    )
    select count(*), array_agg(g.token) into v_total, v_tokens from gone g;
    -- A later statement: it sees what was acknowledged before those leases could be locked.
    delete from :"schema".acks a where a.token = any (v_tokens);
    -- In this order none is missed: a lease may still leave dead letters and pieces behind, and a dead letter a piece.
    delete from :"schema".dead_letters d where d.group_id = v_group and d.ctid = any (array(
      select x.ctid from :"schema".dead_letters x where x.group_id = v_group limit p_limit for update skip locked
    ));
    get diagnostics v_count = row_count;
    v_total := v_total + v_count;
    foreach v_table in array '{pieces,group_states,members}'::text[] loop
      execute format('delete from %1$I.%2$I x where x.group_id = $1
        and x.ctid = any (array(select d.ctid from %1$I.%2$I d where d.group_id = $1 limit $2))', :'schema', v_table)
      using v_group, p_limit;
      get diagnostics v_count = row_count;
      v_total := v_total + v_count;
    end loop;
    if v_total > 0 then
      return true;
    end if;
    if not exists (select from :"schema".leases l where l.group_id = v_group)
        and not exists (select from :"schema".dead_letters d where d.group_id = v_group) then
      delete from :"schema".group_purges p where p.group_id = v_group;
      return true;
    end if;
  end loop;
  return false;
end
$$;
