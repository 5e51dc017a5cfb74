-- Creates a stream; it is an error if there is one of that name. Waits for whoever else is creating it.
-- Options: {"maxAgeMs": …, "maxCount": …, "maxBytes": …}, each a bound on what the stream keeps, and
-- {"idempotencyWindowMs": …}, how long its idempotency keys are remembered.
create or replace function :"schema".create_stream(p_stream text, p_options jsonb default '{}') returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id bigint;
begin
  perform :"schema".check_stream_name(p_stream);
  perform :"schema".check_stream_options(p_options);
  perform pg_advisory_xact_lock(:create_key, hashtext(p_stream));
  insert into :"schema".streams (name, max_age_ms, max_count, max_bytes, idempotency_window_ms)
  values (p_stream, (p_options ->> 'maxAgeMs')::bigint, (p_options ->> 'maxCount')::bigint, (p_options ->> 'maxBytes')::bigint,
    coalesce((p_options ->> 'idempotencyWindowMs')::bigint, 86400000))
  on conflict (name) do nothing returning id into v_id;
  if not found then
    raise exception 'stream % exists', quote_literal(p_stream) using errcode = 'SL002';
  end if;
  return v_id;
end
$$;
