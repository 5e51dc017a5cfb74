-- Publishes one event in the caller's transaction: one insert into the outbox, and a ring of the doorbell if the relay
-- sleeps. Takes no lock that another publisher could wait for, creates nothing, and never fails for a concurrent
-- change, at any isolation level. Returns the outbox id (no offset: that is assigned after commit).
--
-- p_idempotency_key: of the events published or appended to the stream under one key, the first to get there is kept.
-- That is decided when the offset is assigned, so a repeated publish neither waits nor fails.
-- p_deliver_at, or p_delay_ms from now: the event counts as published then. Past: at once.
-- p_visible_to: only to those whom the server in front finds in that audience. p_exclude: not to this connection.
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
  p_ring boolean default true,
  p_idempotency_key text default null,
  p_deliver_at timestamptz default null,
  p_delay_ms double precision default null,
  p_visible_to text default null,
  p_exclude uuid default null
) returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id bigint;
  v_stream_id bigint;
begin
  if p_data is null then
    raise exception 'data is null; publish the JSON value null as ''null''' using errcode = 'SL005';
  end if;
  if p_idempotency_key is not null or p_deliver_at is not null or p_delay_ms is not null then
    return (select p.id from :"schema".publish_many(
      p_stream, p_data::text, array[p_type], array[p_key], array[p_headers::text], p_auto_create, p_ring,
      p_idempotency_key, p_deliver_at, p_delay_ms,
      case when p_visible_to is not null then array[p_visible_to] end,
      case when p_exclude is not null then array[p_exclude] end
    ) p (id));
  end if;
  if p_type is not null and not :"schema".type_is_valid(p_type) then
    perform :"schema".refuse_type(p_type);
  end if;
  -- The name: before an index refuses it in other words. One condition: each costs a publish a microsecond.
  if p_stream is null or octet_length(p_stream) > 512 or octet_length(p_visible_to) not between 1 and 128 then
    perform :"schema".check_stream_name(p_stream);
    perform :"schema".check_visible_to(p_visible_to);
  end if;
  -- One statement for the common case: each costs as much as the insert itself.
  insert into :"schema".outbox (slot, stream_id, stream, type, key, visible_to, exclude, headers, data)
  select c.last_value, (select s.id from :"schema".streams s where s.name = p_stream and s.closed_at is null),
    p_stream, p_type, p_key, p_visible_to, p_exclude, p_headers, p_data
  from :"schema".outbox_slot c
  returning id, stream_id into v_id, v_stream_id;
  if v_stream_id is null then
    perform :"schema".require_publishable(p_stream, p_auto_create);
  end if;
  if p_ring and not pg_try_advisory_xact_lock_shared(:asleep_key) then
    perform :"schema".ring();
  end if;
  return v_id;
end
$$;
