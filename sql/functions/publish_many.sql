-- Publishes several events to one stream in the caller's transaction, as publish does for one. p_data holds the JSON
-- texts joined by U+001E, which no JSON text can contain raw: one plain parameter that every driver can send, where
-- json_to_recordset would refuse nested \u0000 and lone surrogates. The arrays are null when no event has the member.
create or replace function :"schema".publish_many(
  p_stream text,
  p_data text,
  p_types text[] default null,
  p_keys text[] default null,
  p_headers text[] default null,
  p_auto_create boolean default true,
  p_ring boolean default true
) returns setof bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_stream_id bigint;
  v_closed_at timestamptz;
begin
  if exists (select from unnest(p_types) t where not :"schema".type_is_valid(t)) then
    raise exception 'an event type is not valid'
      using errcode = 'SL004', hint = 'use 1 to 128 bytes without control characters, not open, error or sluice:…';
  end if;
  select s.id, s.closed_at into v_stream_id, v_closed_at from :"schema".streams s where s.name = p_stream;
  if not found then
    perform :"schema".check_stream_name(p_stream);
    if not p_auto_create then
      raise exception 'stream % does not exist', quote_literal(p_stream)
        using errcode = 'SL001', hint = 'create it first, or leave autoCreate on';
    end if;
  elsif v_closed_at is not null then
    raise exception 'stream % is closed', quote_literal(p_stream) using errcode = 'SL003';
  end if;
  return query
    insert into :"schema".outbox (slot, stream_id, stream, type, key, headers, data)
    select c.last_value, v_stream_id, p_stream, e.type, e.key, e.headers::json, e.data::json
    from :"schema".outbox_slot c,
      unnest(string_to_array(p_data, e'\u001e'), p_types, p_keys, p_headers)
        with ordinality as e (data, type, key, headers, n)
    order by e.n
    returning id;
  if p_ring and not pg_try_advisory_xact_lock_shared(:asleep_key) then
    perform :"schema".ring();
  end if;
end
$$;
