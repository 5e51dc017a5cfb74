-- Trims a stream: events before offset p_before, older than p_max_age_ms, or beyond the newest p_max_count are gone at
-- once for every reader; of several bounds the one that takes most counts. The space comes back in the background.
-- Returns the oldest offset there is now (head + 1: none) and how many events went. What is published and not moved yet
-- has no offset, and is not trimmed. Waits p_wait_ms for whoever holds the stream (null: as the session does).
create or replace function :"schema".trim_stream(
  p_stream text,
  p_before bigint default null,
  p_max_age_ms bigint default null,
  p_max_count bigint default null,
  p_wait_ms integer default null,
  out oldest bigint,
  out removed bigint
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id bigint;
  v_start bigint;
  v_head bigint;
  v_cut bigint;
begin
  perform :"schema".flush_on_commit();
  if coalesce(p_before, p_max_age_ms, p_max_count) is null then
    raise exception 'nothing says what to trim' using errcode = '22023', hint = 'give p_before, p_max_age_ms or p_max_count';
  end if;
  if p_before < 1 or p_max_age_ms < 0 or p_max_count < 0 then
    raise exception 'a stream cannot be trimmed before %, to % ms or to % events', p_before, p_max_age_ms, p_max_count
      using errcode = '22023', hint = 'give an offset from 1 on, and bounds of 0 or more';
  end if;
  select s.id, s.trimmed_to, coalesce(last."offset", s.trimmed_to) into v_id, v_start, v_head
  from :"schema".streams s left join lateral (
    select e."offset" from :"schema".events e
    where e.stream_id = s.id and e."offset" > s.trimmed_to order by e."offset" desc limit 1
  ) last on true
  where s.name = p_stream;
  if not found then
    raise exception 'stream % does not exist', quote_literal(p_stream) using errcode = 'SL001';
  end if;
  if p_before > v_head + 1 then
    raise exception 'stream % cannot be trimmed before offset %: its head is %', quote_literal(p_stream), p_before, v_head
      using errcode = '22023', hint = format('before %s trims all there is', v_head + 1);
  end if;
  -- All of this may be asked before the lock: offsets and times stand, and what comes meanwhile is younger.
  v_cut := greatest(p_before - 1, v_head - p_max_count,
    case when p_max_age_ms is not null
      then :"schema".offset_before(v_id, v_start, v_head, :"schema".age_limit(p_max_age_ms)) end);
  if p_wait_ms is not null then
    perform set_config('lock_timeout', p_wait_ms || 'ms', true);
  end if;
  v_start := :"schema".move_start(v_id, v_cut);
  if v_start is null then
    raise exception 'stream % was deleted', quote_literal(p_stream) using errcode = 'SL001';
  end if;
  oldest := greatest(v_start, v_cut) + 1;
  removed := greatest(v_cut - v_start, 0);
end
$$;
