-- The last offset after p_from and up to p_to whose event is older than p_time; p_from if there is none. `at` never
-- decreases within a stream, so this is a binary search in the primary key: 27 probes for a hundred million events, and
-- no index on `at` that every append would have to write. Stable, so that all probes see the same events.
create or replace function :"schema".offset_before(p_stream_id bigint, p_from bigint, p_to bigint, p_time timestamptz)
returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_older bigint := p_from;
  v_younger bigint := p_to + 1;
  v_middle bigint;
  v_is_older boolean;
begin
  while v_younger - v_older > 1 loop
    v_middle := v_older + (v_younger - v_older) / 2;
    select e.at < p_time into v_is_older from :"schema".events e where e.stream_id = p_stream_id and e."offset" = v_middle;
    if v_is_older then
      v_older := v_middle;
    else -- also when the event is not there any more: what is not known to be old is kept
      v_younger := v_middle;
    end if;
  end loop;
  return v_older;
end
$$;
