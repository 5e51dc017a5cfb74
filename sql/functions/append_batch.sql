-- Appends events to several streams in one call and one commit; what the library's own append uses.
--
-- Events are laid out stream after stream: p_streams[i] gets p_counts[i] of them. p_data and p_headers hold JSON texts
-- joined by U+001E (see publish_many). With p_wait_ms = 0 a stream that somebody holds is left out ('held') and delays
-- nobody; otherwise the call waits that long (null: as the session does) for its ONE stream: who waits must hold no other.
--
-- Returns per stream: its index, the outcome ('ok', 'held', 'closed', 'missing'), its id, the first offset given
-- and the tag of the event before it, which tells a reader in memory whether this follows on what it has.
create or replace function :"schema".append_batch(
  p_streams text[],
  p_counts integer[],
  p_data text,
  p_tags integer[],
  p_types text[] default null,
  p_keys text[] default null,
  p_headers text[] default null,
  p_auto_create boolean default true,
  p_wait_ms integer default 0
) returns table (idx integer, outcome text, stream_id bigint, first_offset bigint, previous_tag integer, at timestamptz)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  v_name text := p_streams[1];
  v_id bigint;
  v_head bigint;
  v_last record;
  v_ids bigint[];
  v_now timestamptz;
  v_busy bigint[];
  v_starts bigint[];
begin
  perform :"schema".require_read_committed();
  perform :"schema".flush_on_commit();
  -- The common case at two thirds of the cost: one stream that is there, open, and has nothing pending. Otherwise the
  -- general case below takes over, and takes the same lock again.
  if cardinality(p_streams) = 1 and p_wait_ms is distinct from 0 then
    if p_wait_ms is not null then
      perform set_config('lock_timeout', p_wait_ms || 'ms', true);
    end if;
    select s.id, s.trimmed_to, s.trimmed_tag into stream_id, v_head, previous_tag
    from :"schema".streams s where s.name = v_name and s.closed_at is null for no key update;
    v_id := stream_id;
    if found and not exists (select from :"schema".outbox o where o.stream = v_name) then
      select e."offset", e.tag, e.at into v_last from :"schema".events e
      where e.stream_id = v_id and e."offset" > v_head order by e."offset" desc limit 1;
      if found then
        v_head := v_last."offset";
        previous_tag := v_last.tag;
      end if;
      v_now := greatest(v_last.at, clock_timestamp());
      insert into :"schema".events (stream_id, "offset", at, tag, size, type, key, headers, data)
      select v_id, v_head + e.n, v_now, e.tag, octet_length(e.data), e.type, e.key, e.headers::json, e.data::json
      from unnest(string_to_array(p_data, e'\u001e'), p_tags, p_types, p_keys, p_headers)
        with ordinality as e (data, tag, type, key, headers, n);
      idx := 1;
      outcome := 'ok';
      first_offset := v_head + 1;
      at := v_now;
      return next;
      return;
    end if;
  end if;
  if p_auto_create then
    for v_name in select n from unnest(p_streams) n where not exists (select from :"schema".streams s where s.name = n) loop
      perform :"schema".check_stream_name(v_name);
      perform :"schema".create_missing_stream(v_name);
    end loop;
  end if;
  if p_wait_ms = 0 then
    v_ids := array(select s.id from :"schema".streams s where s.name = any (p_streams) for no key update skip locked);
  elsif cardinality(p_streams) = 1 then
    if p_wait_ms is not null then
      perform set_config('lock_timeout', p_wait_ms || 'ms', true);
    end if;
    v_ids := array(select s.id from :"schema".streams s where s.name = p_streams[1] for no key update);
  else
    raise exception 'only a call for one stream may wait';
  end if;
  -- What was published before goes first; a stream whose backlog does not fit in one step stays for the next try.
  if exists (select from unnest(p_streams) n cross join lateral (select from :"schema".outbox o where o.stream = n limit 1) o) then
    v_busy := array(select m.stream_id from :"schema".move_pending(v_ids, 10000) m where m.more);
  else
    v_busy := '{}';
  end if;
  v_now := clock_timestamp();
  v_starts := array(select sum(c.count) over (order by c.n) - c.count + 1 from unnest(p_counts) with ordinality c (count, n) order by c.n);
  return query
  with stream as materialized (
    select w.n::integer as idx, s.id, s.closed_at is not null as closed, s.id is not null as found,
      coalesce(s.id = any (v_ids) and s.id <> all (v_busy), false) as held_by_us,
      coalesce(greatest(s.trimmed_to, last."offset"), 0) as head,
      coalesce(last.tag, s.trimmed_tag) as head_tag, greatest(v_now, last.at) as at
    from unnest(p_streams) with ordinality w (name, n)
    left join :"schema".streams s on s.name = w.name
    left join lateral (
      select e."offset", e.tag, e.at from :"schema".events e
      where e.stream_id = s.id and e."offset" > s.trimmed_to order by e."offset" desc limit 1
    ) last on true
  ), placed as (
    insert into :"schema".events (stream_id, "offset", at, tag, size, type, key, headers, data)
    select s.id, s.head + e.n - v_starts[s.idx] + 1, s.at, e.tag, octet_length(e.data), e.type, e.key, e.headers::json, e.data::json
    from unnest(string_to_array(p_data, e'\u001e'), p_tags, p_types, p_keys, p_headers)
      with ordinality as e (data, tag, type, key, headers, n)
    join stream s on s.idx = width_bucket(e.n, v_starts)
    where s.held_by_us and not s.closed
  )
  select s.idx, case when s.closed then 'closed' when s.held_by_us then 'ok' when s.found then 'held'
      when p_auto_create then 'held' else 'missing' end, s.id, s.head + 1, s.head_tag, s.at
  from stream s;
end
$$;
