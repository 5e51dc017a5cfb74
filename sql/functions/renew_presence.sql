-- Renews a process's lease, and takes out what processes whose lease is over have left behind: a thousand connections
-- of each at a time, so whoever beats next goes on. False: its own lease is over, or it never had one.
-- Locks: its own holder's row, before any row of presence. It waits for nothing else: rows that are locked are left to
-- whoever beats next.
create or replace function :"schema".renew_presence(p_holder uuid, p_lease_ms double precision) returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  c_batch constant integer := 1000;
  v_renewed boolean;
  v_gone uuid;
  v_streams text[];
  v_members text[];
begin
  update :"schema".presence_holders h set expires_at = clock_timestamp() + make_interval(secs => p_lease_ms / 1000)
  where h.id = p_holder and h.expires_at > clock_timestamp();
  v_renewed := found;
  for v_gone in
    select h.id from :"schema".presence_holders h where h.expires_at <= clock_timestamp()
    order by h.id limit 10 for update skip locked
  loop
    with gone as (
      delete from :"schema".presence p where p.ctid = any (array(
        select q.ctid from :"schema".presence q where q.holder = v_gone limit c_batch for update skip locked
      )) and p.holder = v_gone -- whoever came back meanwhile is held by another
      returning p.stream, p.member
    )
    select array_agg(g.stream), array_agg(g.member) into v_streams, v_members from gone g;
    delete from :"schema".presence_holders h
    where h.id = v_gone and not exists (select from :"schema".presence p where p.holder = v_gone);
    perform :"schema".announce_presence(v_streams, v_members);
  end loop;
  return v_renewed;
end
$$;
