-- Removes up to p_limit rows of the history of counts whose time is over. Returns how many.
create or replace function :"schema".expire_stats(p_limit integer default 5000) returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_removed bigint;
begin
  perform set_config('synchronous_commit', 'off', true);
  -- Locked first, and skipped where another process is removing it.
  delete from :"schema".stats_history h using (
    select e.at, e.id from :"schema".stats_history e
    where e.expires_at < clock_timestamp() order by e.expires_at limit p_limit for update skip locked
  ) expired
  where h.at = expired.at and h.id = expired.id;
  get diagnostics v_removed = row_count;
  return v_removed;
end
$$;
