-- Appends one event in the caller's transaction and returns its offset (of the first, for a repeated idempotency key).
-- Holds the stream until the transaction ends: for scripts and short transactions, not for triggers (those publish).
-- What this transaction published to the stream before goes first. Two transactions that append to the same streams in
-- opposite order can deadlock: append to one stream per transaction, or in order of their names.
create or replace function :"schema".append(
  p_stream text,
  p_data json,
  p_type text default null,
  p_key text default null,
  p_headers json default null,
  p_idempotency_key text default null,
  p_expected_offset bigint default null,
  p_visible_to text default null,
  p_exclude uuid default null
) returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_result record;
begin
  if p_data is null then
    raise exception 'data is null; append the JSON value null as ''null''' using errcode = 'SL005';
  end if;
  perform :"schema".check_stream_name(p_stream);
  if not exists (select from :"schema".streams s where s.name = p_stream) then
    perform pg_advisory_xact_lock(:create_key, hashtext(p_stream)); -- waits for whoever is creating it
  end if;
  select * into v_result from :"schema".append_batch(
    array[p_stream], array[1], p_data::text, array[(random() * 4294967295 - 2147483648)::integer],
    array[p_type], array[p_key], array[p_headers::text], true, null,
    case when p_idempotency_key is not null then array[p_idempotency_key] end,
    case when p_expected_offset is not null then array[p_expected_offset] end,
    case when p_visible_to is not null then array[p_visible_to] end,
    case when p_exclude is not null then array[p_exclude] end
  );
  if v_result.outcome = 'closed' then
    raise exception 'stream % is closed', quote_literal(p_stream) using errcode = 'SL003';
  elsif v_result.outcome = 'conflict' then
    raise exception 'stream % has the head %, so the next offset is % and not %',
      quote_literal(p_stream), v_result.first_offset - 1, v_result.first_offset, p_expected_offset using errcode = 'SL007';
  elsif v_result.outcome = 'duplicate' then
    return v_result.first_offset;
  elsif v_result.outcome <> 'ok' then
    raise exception 'stream % is held or has a long backlog', quote_literal(p_stream) using errcode = '55P03';
  end if;
  if pg_notification_queue_usage() < 0.5 then -- a hint must not fail the transaction
    perform pg_notify(:'readers_channel', '');
  end if;
  return v_result.first_offset;
end
$$;
