-- Refuses a type that type_is_valid has found invalid.
create or replace function :"schema".refuse_type(p_type text) returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'event type % is not valid', quote_literal(left(p_type, 80))
    using errcode = 'SL004', hint = 'use 1 to 128 bytes without control characters, not open, error or sluice:…';
end
$$;
