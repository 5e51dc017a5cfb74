-- Creates a stream that somebody published or appended to by name. False: somebody else is creating it in a
-- transaction still open, so it is left for the next pass. Tried, never waited for: an insert that meets another's
-- uncommitted row of the same name would wait for that transaction, and with it all that this one has locked.
create or replace function :"schema".create_missing_stream(p_stream text) returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if not pg_try_advisory_xact_lock(:create_key, hashtext(p_stream)) then
    return false;
  end if;
  insert into :"schema".streams (name) values (p_stream) on conflict (name) do nothing;
  return true;
end
$$;
