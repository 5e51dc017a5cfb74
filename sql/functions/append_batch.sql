-- Appends events to several streams in one call and one commit; what the library's own append uses.
--
-- Events are laid out group after group: p_counts[i] of them for p_streams[i]. A stream has one group, or several in
-- order when each is to be kept or dropped by itself: p_idempotency_keys[i] is remembered with the group, and a group
-- whose key is known already is not written again. p_expected[i], allowed for a stream's only group, is the offset that
-- its first event must get. One key may occur once per stream and call.
--
-- p_data holds JSON texts joined by U+001E (see publish_many). With p_wait_ms = 0 a stream that somebody holds is left
-- out ('held') and delays nobody; otherwise the call waits that long (null: as the session does) for its ONE stream:
-- who waits must hold no other.
--
-- Returns per group: its index, the outcome ('ok', 'duplicate', 'conflict', 'held', 'closed', 'missing'), its stream's
-- id, the first and last offset given to it (by a conflict: first is the one that would have been) and the tag of the
-- event before it, which tells a reader in memory whether this follows on what it has; for a duplicate, the offsets
-- given then, and the tag of the last event.
create or replace function :"schema".append_batch(
  p_streams text[],
  p_counts integer[],
  p_data text,
  p_tags integer[],
  p_types text[] default null,
  p_keys text[] default null,
  p_headers text[] default null,
  p_auto_create boolean default true,
  p_wait_ms integer default 0,
  p_idempotency_keys text[] default null,
  p_expected bigint[] default null,
  p_visible_to text[] default null,
  p_exclude uuid[] default null
) returns table (
  idx integer, outcome text, stream_id bigint, first_offset bigint, last_offset bigint, previous_tag integer,
  last_tag integer, at timestamptz
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  v_name text := p_streams[1];
  v_is_single boolean := cardinality(p_streams) = 1 and cardinality(p_counts) = 1
    and p_counts[1] > 0 and p_counts[1] = cardinality(p_tags);
  v_id bigint;
  v_head bigint;
  v_tag integer;
  v_last record;
  v_new text[] := '{}';
  v_ids bigint[];
  v_now timestamptz;
  v_busy bigint[];
  v_starts bigint[];
begin
  -- Asked here before they are called, and what arrays hold, by expressions: a call, or a statement that reads an array as
  -- a table, takes longer than the lock of the stream.
  if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted')
      or current_setting('synchronous_commit') in ('off', 'local') then
    perform :"schema".require_read_committed();
    perform :"schema".flush_on_commit();
  end if;
  if v_is_single then
    null; -- they fit
  elsif exists (select from unnest(p_counts) c where c < 1 or c is null) or cardinality(p_counts) <> cardinality(p_streams)
      or cardinality(p_tags) <> (select sum(c) from unnest(p_counts) c) then
    raise exception 'the counts % do not fit % streams and % events', p_counts, cardinality(p_streams), cardinality(p_tags)
      using errcode = '22023';
  end if;
  if p_types is not null and (p_types[1] = all (p_types) and :"schema".type_is_valid(p_types[1])) is not true then
    select t.type into v_name from (select distinct type from unnest(p_types) type) t
    where not :"schema".type_is_valid(t.type) limit 1;
    if found then
      perform :"schema".refuse_type(v_name);
    end if;
    v_name := p_streams[1];
  end if;
  if p_visible_to is not null then
    perform :"schema".check_visible_to(l) from unnest(p_visible_to) l;
  end if;
  if p_idempotency_keys is not null then
    perform :"schema".check_idempotency_key(k) from unnest(p_idempotency_keys) k;
  end if;
  -- The common case at half the cost: one stream that is there, open and free, and has nothing pending. Otherwise the
  -- general case below takes over, and takes the same lock again.
  if v_is_single and p_wait_ms is distinct from 0 and p_idempotency_keys is null and p_expected is null then
    -- A locked row is read as it is, not as the snapshot knows it: what a trim has just changed counts.
    select s.id, s.trimmed_to, s.trimmed_tag into v_id, v_head, v_tag from :"schema".streams s
    where s.name = v_name and s.closed_at is null for no key update skip locked;
    -- Later statements: their snapshots are younger than the lock.
    if found and not exists (select from :"schema".outbox o where o.stream = v_name) then
      select e."offset" as head, e.tag, e.at into v_last from :"schema".events e
      where e.stream_id = v_id and e."offset" > v_head order by e."offset" desc limit 1;
      v_head := coalesce(v_last.head, v_head);
      v_now := greatest(v_last.at, clock_timestamp());
      if p_counts[1] = 1 then -- to take arrays apart costs as much as all the rest of it
        insert into :"schema".events (stream_id, "offset", at, tag, size, type, key, visible_to, exclude, headers, data)
        values (v_id, v_head + 1, v_now, p_tags[1], octet_length(p_data), p_types[1], p_keys[1], p_visible_to[1], p_exclude[1],
          p_headers[1]::json, p_data::json);
      else
        insert into :"schema".events (stream_id, "offset", at, tag, size, type, key, visible_to, exclude, headers, data)
        select v_id, e."offset", v_now, e.tag, octet_length(e.data), e.type, e.key, e.visible_to, e.exclude,
          e.headers::json, e.data::json
        from (
          select generate_series(v_head + 1, v_head + p_counts[1]) as "offset",
            unnest(string_to_array(p_data, e'\u001e')) as data, unnest(p_tags) as tag, unnest(p_types) as type,
            unnest(p_keys) as key, unnest(p_visible_to) as visible_to, unnest(p_exclude) as exclude,
            unnest(p_headers) as headers
        ) e;
      end if;
      idx := 1;
      outcome := 'ok';
      stream_id := v_id;
      first_offset := v_head + 1;
      last_offset := v_head + p_counts[1];
      previous_tag := coalesce(v_last.tag, v_tag);
      at := v_now;
      return next;
      return;
    end if;
  end if;
  if p_auto_create then
    -- Not for what is a conflict anyway: then nothing is written, and no stream made.
    v_new := array(
      select distinct w.name from unnest(p_streams, p_expected) w (name, expected)
      where not exists (select from :"schema".streams s where s.name = w.name)
        and (w.expected > 1 is not true or exists (select from :"schema".outbox o where o.stream = w.name))
    );
    foreach v_name in array v_new loop
      perform :"schema".check_stream_name(v_name);
      perform :"schema".create_missing_stream(v_name);
    end loop;
  end if;
  if p_wait_ms = 0 then
    v_ids := array(select s.id from :"schema".streams s where s.name = any (p_streams) for no key update skip locked);
  elsif p_streams[1] = all (p_streams) then
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
    select s.id, s.name, s.closed_at is not null as closed, s.idempotency_window_ms,
      coalesce(s.id = any (v_ids) and s.id <> all (v_busy), false) as held_by_us,
      coalesce(greatest(s.trimmed_to, last."offset"), 0) as head,
      coalesce(last.tag, s.trimmed_tag) as head_tag, greatest(v_now, last.at) as at
    from :"schema".streams s
    left join lateral (
      select e."offset", e.tag, e.at from :"schema".events e
      where e.stream_id = s.id and e."offset" > s.trimmed_to order by e."offset" desc limit 1
    ) last on true
    where s.name = any (p_streams)
  ), judged as materialized (
    select w.n::integer as idx, w.count, w.key, s.*, k.first_offset, k.last_offset, k.last_tag,
      case when s.id is null then
          case when not p_auto_create then 'missing'
            when w.expected > 1 and w.name <> all (v_new) then 'conflict'
            else 'held' end -- somebody is making it
        when not s.held_by_us then 'held'
        when k.key is not null then 'duplicate'
        when s.closed then 'closed'
        when w.expected <> s.head + 1 then 'conflict'
        else 'ok' end as outcome
    from unnest(p_streams, p_counts, p_idempotency_keys, p_expected) with ordinality w (name, count, key, expected, n)
    left join stream s on s.name = w.name
    left join lateral ( -- offset 0: looked up one by one, also by a plan made while there were few keys
      select i.key, i.first_offset, i.last_offset, i.last_tag from :"schema".idempotency_keys i
      where i.stream_id = s.id and i.key = w.key and i.expires_at > v_now offset 0
    ) k on true
  ), result as materialized (
    select j.*, coalesce(j.head, 0) + 1 + coalesce(sum(j.count) filter (where j.outcome = 'ok')
      over (partition by j.id order by j.idx rows between unbounded preceding and 1 preceding), 0)::bigint as starts_at
    from judged j
  ), placed as (
    insert into :"schema".events (stream_id, "offset", at, tag, size, type, key, visible_to, exclude, headers, data)
    select r.id, r.starts_at + e.n - v_starts[r.idx], r.at, e.tag, octet_length(e.data), e.type, e.key, e.visible_to,
      e.exclude, e.headers::json, e.data::json
    from unnest(string_to_array(p_data, e'\u001e'), p_tags, p_types, p_keys, p_visible_to, p_exclude, p_headers)
      with ordinality as e (data, tag, type, key, visible_to, exclude, headers, n)
    join result r on r.idx = width_bucket(e.n, v_starts)
    where r.outcome = 'ok'
  ), remembered as (
    insert into :"schema".idempotency_keys (stream_id, key, first_offset, last_offset, last_tag, expires_at)
    select r.id, r.key, r.starts_at, r.starts_at + r.count - 1, p_tags[v_starts[r.idx] + r.count - 1], v_now + r.idempotency_window_ms * interval '1 ms'
    from result r where r.outcome = 'ok' and r.key is not null
    on conflict (stream_id, key) do update -- it had expired, and is not removed yet
    set first_offset = excluded.first_offset, last_offset = excluded.last_offset, last_tag = excluded.last_tag,
      expires_at = excluded.expires_at
  )
  select r.idx, r.outcome, r.id,
    case when r.outcome = 'duplicate' then r.first_offset else r.starts_at end,
    case when r.outcome = 'duplicate' then r.last_offset else r.starts_at + r.count - 1 end,
    r.head_tag, r.last_tag, r.at
  from result r;
end
$$;
