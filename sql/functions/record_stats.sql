-- Keeps one interval of a handler's counts: a row for each stream and one for all of them. p_rows is an array of objects
-- with the columns of stats_history. The interval ended p_ago_ms ago, which is not now if it could not be written then.
-- An interval that is there already stays as it is, so whoever had no answer may repeat it. Returns the rows written.
--
-- Not flushed: a crash of the database may take the last second of it.
create or replace function :"schema".record_stats(
  p_run uuid,
  p_sequence bigint,
  p_instance text,
  p_rows json,
  p_span_ms double precision,
  p_ago_ms double precision,
  p_keep_ms double precision
) returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_at timestamptz := clock_timestamp() - make_interval(secs => p_ago_ms / 1000);
  v_written integer;
begin
  perform set_config('synchronous_commit', 'off', true);
  insert into :"schema".stats_history (at, span_ms, expires_at, instance, run, sequence, stream, connections, opened,
    evicted, events, bytes, live_events, live_deliveries, replay_events, replay_events_sum, latency_ms, latency_ms_sum,
    ended, refused, left_out)
  select v_at, p_span_ms, v_at + make_interval(secs => p_keep_ms / 1000), p_instance, p_run, p_sequence, r.stream,
    r.connections, r.opened, r.evicted, r.events, r.bytes, r.live_events, r.live_deliveries, r.replay_events,
    r.replay_events_sum, r.latency_ms, r.latency_ms_sum, r.ended, r.refused, r.left_out
  from json_to_recordset(p_rows) r (stream text, connections integer, opened bigint, evicted bigint, events bigint,
    bytes bigint, live_events bigint, live_deliveries bigint, replay_events jsonb, replay_events_sum double precision,
    latency_ms jsonb, latency_ms_sum double precision, ended jsonb, refused jsonb, left_out integer)
  on conflict (run, sequence, coalesce(stream, '')) do nothing;
  get diagnostics v_written = row_count;
  return v_written;
end
$$;
