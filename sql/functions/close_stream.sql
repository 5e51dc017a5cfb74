-- Closes a stream: its events stay, nothing more is accepted. What is published but not moved yet goes in first; what
-- commits later is listed as undeliverable. False: there is no such stream.
create or replace function :"schema".close_stream(p_stream text) returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id bigint;
begin
  perform :"schema".require_read_committed();
  perform :"schema".flush_on_commit();
  select s.id into v_id from :"schema".streams s where s.name = p_stream for no key update;
  if not found then
    return false;
  end if;
  perform :"schema".move_pending(array[v_id], null);
  update :"schema".streams s set closed_at = coalesce(s.closed_at, clock_timestamp()) where s.id = v_id;
  return true;
end
$$;
