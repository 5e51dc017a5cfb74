-- Refuses a publish to a stream that is closed, or is not there and may not or cannot be created.
create or replace function :"schema".require_publishable(p_stream text, p_auto_create boolean) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_closed boolean;
begin
  select s.closed_at is not null into v_closed from :"schema".streams s where s.name = p_stream;
  if v_closed then
    raise exception 'stream % is closed', quote_literal(p_stream) using errcode = 'SL003';
  elsif not found then
    perform :"schema".check_stream_name(p_stream);
    if not p_auto_create then
      raise exception 'stream % does not exist', quote_literal(p_stream)
        using errcode = 'SL001', hint = 'create it first, or leave autoCreate on';
    end if;
  end if;
end
$$;
