-- One step of keeping a stream within its bounds: moves its start to where they are met, as far as that is known, and
-- says how many events went and whether another step is needed (only maxBytes needs several). Everything is found out
-- before the stream's lock is asked for; under it only the start moves, if the bounds are still those that were read.
-- A stream held for longer than p_wait_ms fails with lock_not_available and is left for the next round.
--
-- Not flushed: what a crash takes back of this is done again. So the lock is not held for the time of a flush.
-- Locks: the stream's row in `weights`, then the one in `streams`. Nobody takes them the other way round.
create or replace function :"schema".retain_stream(
  p_stream_id bigint, p_limit integer default 20000, p_wait_ms integer default 100, out removed bigint, out more boolean
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  s record;
  v_cut bigint;
  v_heavy bigint;
  v_held bigint;
begin
  perform set_config('synchronous_commit', 'off', true);
  perform set_config('lock_timeout', p_wait_ms || 'ms', true);
  removed := 0;
  more := false;
  select t.trimmed_to, t.max_age_ms, t.max_count, t.max_bytes, coalesce(last."offset", t.trimmed_to) as head into s
  from :"schema".streams t left join lateral (
    select e."offset" from :"schema".events e
    where e.stream_id = t.id and e."offset" > t.trimmed_to order by e."offset" desc limit 1
  ) last on true
  where t.id = p_stream_id;
  if not found then
    return;
  end if;
  v_cut := greatest(s.trimmed_to, s.head - s.max_count,
    case when s.max_age_ms is not null
      then :"schema".offset_before(p_stream_id, s.trimmed_to, s.head, :"schema".age_limit(s.max_age_ms)) end);
  if s.max_bytes is not null then
    select w.cut, w.more into v_heavy, more
    from :"schema".weigh_stream(p_stream_id, v_cut, s.head, s.max_bytes, p_limit) w;
    v_cut := greatest(v_cut, v_heavy);
  end if;
  if v_cut > s.trimmed_to then
    v_held := :"schema".held_from(p_stream_id, s.trimmed_to, s.head);
    if v_held < v_cut then
      v_cut := greatest(v_held, s.trimmed_to);
      more := false; -- as long as a group holds it back
    end if;
  end if;
  if v_cut > s.trimmed_to then
    perform from :"schema".streams t
    where t.id = p_stream_id and t.max_age_ms is not distinct from s.max_age_ms
      and t.max_count is not distinct from s.max_count and t.max_bytes is not distinct from s.max_bytes
    for no key update;
    if found then
      removed := greatest(0, v_cut - :"schema".move_start(p_stream_id, v_cut));
    end if;
  end if;
end
$$;
