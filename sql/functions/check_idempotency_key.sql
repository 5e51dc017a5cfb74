-- Refuses a key that could not be stored and compared as given. Null is no key.
create or replace function :"schema".check_idempotency_key(p_key text) returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if octet_length(p_key) not between 1 and 255 then
    raise exception 'idempotency key % is not valid: it has % bytes', quote_literal(left(p_key, 80)), octet_length(p_key)
      using errcode = 'SL004', hint = 'use 1 to 255 bytes of UTF-8';
  end if;
end
$$;
