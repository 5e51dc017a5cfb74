-- Takes out connections of a process.
-- Locks: rows of presence in the order of their key, as enter_presence does.
create or replace function :"schema".leave_presence(p_holder uuid, p_connections uuid[]) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_streams text[];
  v_members text[];
begin
  perform from :"schema".presence p where p.holder = p_holder and p.connection_id = any (p_connections)
  order by p.stream, p.member, p.connection_id for update;
  with gone as (
    delete from :"schema".presence p where p.holder = p_holder and p.connection_id = any (p_connections)
    returning p.stream, p.member
  )
  select array_agg(g.stream), array_agg(g.member) into v_streams, v_members from gone g;
  perform :"schema".announce_presence(v_streams, v_members);
end
$$;
