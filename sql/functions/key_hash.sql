-- What decides an event's partition in a keyed group. An event without a key stands for itself.
create or replace function :"schema".key_hash(p_key text, p_offset bigint) returns bigint
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
return case when p_key is null then hashint8extended(p_offset, 1) else hashtextextended(p_key, 0) end;
