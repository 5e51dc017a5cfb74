-- Forgets up to p_limit idempotency keys whose time is over. Returns how many.
create or replace function :"schema".expire_keys(p_limit integer default 5000) returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_removed bigint;
begin
  -- Locked first, and skipped when a writer is renewing it: that one is no longer expired.
  delete from :"schema".idempotency_keys k using (
    select e.stream_id, e.key from :"schema".idempotency_keys e
    where e.expires_at < clock_timestamp() order by e.expires_at limit p_limit for update skip locked
  ) expired
  where k.stream_id = expired.stream_id and k.key = expired.key and k.expires_at < clock_timestamp();
  get diagnostics v_removed = row_count;
  return v_removed;
end
$$;
