-- Publishes several events to one stream in the caller's transaction, as publish does for one; an idempotency key is
-- that of the call. p_data holds the JSON texts joined by U+001E, which no JSON text can contain raw: one plain
-- parameter that every driver can send, where json_to_recordset would refuse nested \u0000 and lone surrogates. The
-- arrays are null when no event has the member.
create or replace function :"schema".publish_many(
  p_stream text,
  p_data text,
  p_types text[] default null,
  p_keys text[] default null,
  p_headers text[] default null,
  p_auto_create boolean default true,
  p_ring boolean default true,
  p_idempotency_key text default null,
  p_deliver_at timestamptz default null,
  p_delay_ms double precision default null,
  p_visible_to text[] default null,
  p_exclude uuid[] default null
) returns setof bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_stream_id bigint;
  v_call_id bigint;
  v_due_at timestamptz;
  v_first_id bigint;
  v_type text;
begin
  select t into v_type from unnest(p_types) t where not :"schema".type_is_valid(t) limit 1;
  if found then
    perform :"schema".refuse_type(v_type);
  end if;
  if p_visible_to is not null then
    perform :"schema".check_visible_to(l) from unnest(p_visible_to) l;
  end if;
  perform :"schema".check_stream_name(p_stream);
  select s.id into v_stream_id from :"schema".streams s where s.name = p_stream and s.closed_at is null;
  if not found then
    perform :"schema".require_publishable(p_stream, p_auto_create);
  end if;
  if p_idempotency_key is not null then
    perform :"schema".check_idempotency_key(p_idempotency_key);
    v_call_id := nextval(:'schema.outbox_id');
  end if;
  v_due_at := :"schema".due_time(p_deliver_at, p_delay_ms);
  if v_due_at is null then
    return query
      insert into :"schema".outbox (slot, stream_id, stream, type, key, visible_to, exclude, headers, idempotency_key, call_id, data)
      select c.last_value, v_stream_id, p_stream, e.type, e.key, e.visible_to, e.exclude, e.headers::json,
        p_idempotency_key, v_call_id, e.data::json
      from :"schema".outbox_slot c,
        unnest(string_to_array(p_data, e'\u001e'), p_types, p_keys, p_visible_to, p_exclude, p_headers)
          with ordinality as e (data, type, key, visible_to, exclude, headers, n)
      order by e.n
      returning id;
  else
    -- What the transaction delays to one time stands together, at the place of the first event it delayed to any. Kept in a
    -- setting that ends with the transaction or its savepoint: to look it up in the table would make two transactions that
    -- are serializable fail for each other.
    v_first_id := nullif(current_setting(:'first_delayed_setting', true), '')::bigint;
    if v_first_id is null then
      v_first_id := nextval(:'schema.outbox_id');
      perform set_config(:'first_delayed_setting', v_first_id::text, true);
    end if;
    return query
      insert into :"schema".delayed (due_at, first_id, id, stream_id, stream, type, key, visible_to, exclude, headers,
        idempotency_key, call_id, data)
      select v_due_at, v_first_id, e.id, v_stream_id, p_stream, e.type, e.key, e.visible_to, e.exclude, e.headers::json, p_idempotency_key,
        v_call_id, e.data::json
      from (
        select nextval(:'schema.outbox_id') as id, o.* from (
          select * from unnest(string_to_array(p_data, e'\u001e'), p_types, p_keys, p_visible_to, p_exclude, p_headers)
            with ordinality as u (data, type, key, visible_to, exclude, headers, n) order by u.n
        ) o
      ) e
      order by e.n
      returning id;
  end if;
  if p_ring and not pg_try_advisory_xact_lock_shared(:asleep_key) then
    perform :"schema".ring();
  end if;
end
$$;
