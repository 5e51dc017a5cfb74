-- Creates a stream; it is an error if there is one of that name. Waits for whoever else is creating it.
create or replace function :"schema".create_stream(p_stream text) returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id bigint;
begin
  perform :"schema".check_stream_name(p_stream);
  perform pg_advisory_xact_lock(:create_key, hashtext(p_stream));
  insert into :"schema".streams (name) values (p_stream) on conflict (name) do nothing returning id into v_id;
  if not found then
    raise exception 'stream % exists', quote_literal(p_stream) using errcode = 'SL002';
  end if;
  return v_id;
end
$$;
