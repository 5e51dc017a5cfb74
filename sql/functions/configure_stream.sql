-- Changes options of a stream: those given, and no others; null takes a bound away, and the default back. Once this has
-- committed, nothing is trimmed any more by what was set before. Waits p_wait_ms for whoever holds the stream (null: as the
-- session does).
create or replace function :"schema".configure_stream(p_stream text, p_options jsonb, p_wait_ms integer default null)
returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform :"schema".check_stream_options(p_options);
  if p_wait_ms is not null then
    perform set_config('lock_timeout', p_wait_ms || 'ms', true);
  end if;
  update :"schema".streams s set
    max_age_ms = case when p_options ? 'maxAgeMs' then (p_options ->> 'maxAgeMs')::bigint else s.max_age_ms end,
    max_count = case when p_options ? 'maxCount' then (p_options ->> 'maxCount')::bigint else s.max_count end,
    max_bytes = case when p_options ? 'maxBytes' then (p_options ->> 'maxBytes')::bigint else s.max_bytes end,
    idempotency_window_ms = case when p_options ? 'idempotencyWindowMs'
      then coalesce((p_options ->> 'idempotencyWindowMs')::bigint, 86400000) else s.idempotency_window_ms end
  where s.name = p_stream;
  if not found then
    raise exception 'stream % does not exist', quote_literal(p_stream) using errcode = 'SL001';
  end if;
end
$$;
