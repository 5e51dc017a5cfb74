-- Refuses an audience's label that is not 1 to 128 bytes long: an empty one is no label, and nobody may take it for
-- "everybody". Null is that.
create or replace function :"schema".check_visible_to(p_visible_to text) returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if octet_length(p_visible_to) not between 1 and 128 then
    raise exception 'visible_to % is not valid: it has % bytes', quote_literal(left(p_visible_to, 80)), octet_length(p_visible_to)
      using errcode = 'SL004', hint = 'use 1 to 128 bytes of UTF-8';
  end if;
end
$$;
