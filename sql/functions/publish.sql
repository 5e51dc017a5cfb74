-- Publishes one event in the caller's transaction: one insert into the outbox, and a ring of the doorbell if the relay
-- sleeps. Takes no lock that another publisher could wait for, creates nothing, and never fails for a concurrent
-- change, at any isolation level. Returns the outbox id (no offset: that is assigned after commit).
--
-- Doorbell: the relay holds the asleep key exclusively while it sleeps. Got it shared, then the relay is awake and
-- cannot fall asleep before this transaction ends, so no notification is needed. A rolled-back savepoint gives the
-- lock back, so it is tried on every call and never remembered. Only ever tried: a waiting exclusive lock would turn
-- every publisher away. `p_ring => false` is for transactions that will be prepared: NOTIFY cannot be.
create or replace function :"schema".publish(
  p_stream text,
  p_data json,
  p_type text default null,
  p_key text default null,
  p_headers json default null,
  p_auto_create boolean default true,
  p_ring boolean default true
) returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id bigint;
  v_stream_id bigint;
  v_closed_at timestamptz;
begin
  if p_data is null then
    raise exception 'data is null; publish the JSON value null as ''null''' using errcode = 'SL005';
  end if;
  if not :"schema".type_is_valid(p_type) then
    raise exception 'event type % is not valid', quote_literal(left(p_type, 80))
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
  insert into :"schema".outbox (slot, stream_id, stream, type, key, headers, data)
  select c.last_value, v_stream_id, p_stream, p_type, p_key, p_headers, p_data from :"schema".outbox_slot c
  returning id into v_id;
  if p_ring and not pg_try_advisory_xact_lock_shared(:asleep_key) then
    perform :"schema".ring();
  end if;
  return v_id;
end
$$;
