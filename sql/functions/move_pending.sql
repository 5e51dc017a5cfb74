-- Moves committed outbox rows of the given streams into their logs. THE place where a published event gets its offset.
--
-- The caller holds the row lock of every stream given, taken in an EARLIER statement: this function's snapshots must
-- be younger than the lock, or the head is stale. Rows leave the outbox by the same statement that inserts the events,
-- so a row is moved once or not at all, whoever else looks at it. Never `skip locked` here: that would reorder.
--
-- Order: by outbox id, the events of one transaction (its id and its start: after a restore ids occur again) together at
-- the place of its first. With p_limit a stream that has more pending is cut there, but never inside a transaction, and a
-- long backlog is taken in eighths, so that looking for the rest of the cut transactions stays a small part of the work.
-- Null: no cut, for a caller who knows that little is pending.
--
-- Idempotency keys: of the calls that carry one key, the first in log order is kept, unless the key is remembered from
-- before; the events of a call share its fate. Decided here, under the stream's lock, and nowhere else.
--
-- `= any (array[…])` instead of `=`: it can be joined only by looking each stream up in the index. With `=`, a plan made
-- while the outbox was nearly empty reads all of it and compares, and is kept when others' backlogs have grown.
create or replace function :"schema".move_pending(p_stream_ids bigint[], p_limit integer)
returns table (stream_id bigint, head bigint, moved bigint, refused bigint, more boolean)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
set plan_cache_mode = force_generic_plan -- planning this statement costs more than running it
as $$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp(); -- after the lock, and never before the stream's last event: `at` must not decrease
  v_cut_ids bigint[]; -- the streams that are cut ...
  v_cuts bigint[]; -- ... before which outbox id
begin
  if p_limit is not null then
    select array_agg(s.id), array_agg(c.id) into v_cut_ids, v_cuts
    from :"schema".streams s cross join lateral (
      select o.id from :"schema".outbox o where o.stream = s.name order by o.id
      offset greatest(p_limit, (
        select count(*) / 8 from :"schema".outbox o where o.stream = s.name
          and exists (select from :"schema".outbox p where p.stream = s.name order by p.id offset p_limit)
      )) limit 1
    ) c
    where s.id = any (p_stream_ids);
  end if;
  return query
  with stream as materialized (
    select s.id, s.name, s.closed_at is not null as closed, greatest(s.trimmed_to, last."offset") as head,
      greatest(v_now, last.at) as at, s.idempotency_window_ms, c.cut
    from :"schema".streams s
    -- bounded by trimmed_to: without it the scan wades through trimmed entries that an old snapshot keeps
    left join lateral (
      select e."offset", e.at from :"schema".events e
      where e.stream_id = s.id and e."offset" > s.trimmed_to order by e."offset" desc limit 1
    ) last on true
    left join unnest(v_cut_ids, v_cuts) c (id, cut) on c.id = s.id
    where s.id = any (p_stream_ids)
  ), whole as materialized (
    -- The transactions begun before the cut, which go whole. Found in the snapshot that moves them: one that commits
    -- between two statements would be cut.
    select distinct s.id, o.xid, o.published_at from stream s join :"schema".outbox o on o.stream = any (array[s.name]) and o.id < s.cut
  ), taken as (
    delete from :"schema".outbox o using stream s
    where o.stream = any (array[s.name])
      and (s.cut is null or o.id < s.cut or (s.id, o.xid, o.published_at) in (select w.id, w.xid, w.published_at from whole w))
    returning s.id as stream_id, o.stream_id as published_to, s.closed, s.head, s.at, s.idempotency_window_ms, o.id, o.xid,
      o.published_at, o.stream, o.type, o.key, o.visible_to, o.exclude, o.headers, o.idempotency_key, o.call_id, o.data
  ), grouped as (
    select t.*, min(t.id) over (partition by t.stream_id, t.xid, t.published_at) as first_id from taken t
    where not t.closed and (t.published_to is null or t.published_to = t.stream_id)
  ), dropped as (
    select distinct r.call_id from (
      select g.*, first_value(g.call_id) over (partition by g.stream_id, g.idempotency_key order by g.first_id, g.id) as kept
      from grouped g where g.idempotency_key is not null
    ) r
    where r.call_id <> r.kept or exists (
      select from :"schema".idempotency_keys k
      where k.stream_id = r.stream_id and k.key = r.idempotency_key and k.expires_at > v_now
      offset 0 -- looked up one by one, also by a plan made while there were few keys
    )
  ), numbered as materialized (
    select g.*, g.head + row_number() over (partition by g.stream_id order by g.first_id, g.id) as "offset",
      (random() * 4294967295 - 2147483648)::integer as tag
    from grouped g
    where g.idempotency_key is null or g.call_id not in (select d.call_id from dropped d)
  ), placed as (
    insert into :"schema".events (stream_id, "offset", at, tag, size, type, key, visible_to, exclude, headers, data)
    select n.stream_id, n."offset", n.at, n.tag, octet_length(n.data::text), n.type, n.key, n.visible_to, n.exclude, n.headers, n.data
    from numbered n
    returning stream_id, "offset"
  ), remembered as (
    insert into :"schema".idempotency_keys (stream_id, key, first_offset, last_offset, last_tag, expires_at)
    select n.stream_id, n.idempotency_key, min(n."offset"), max(n."offset"),
      (array_agg(n.tag order by n."offset" desc))[1], v_now + min(n.idempotency_window_ms) * interval '1 ms'
    from numbered n where n.idempotency_key is not null
    group by n.stream_id, n.idempotency_key
    on conflict (stream_id, key) do update -- it had expired, and is not removed yet
    set first_offset = excluded.first_offset, last_offset = excluded.last_offset, last_tag = excluded.last_tag,
      expires_at = excluded.expires_at
  ), refused as (
    insert into :"schema".undeliverable (reason, published_at, stream_id, stream, type, key, visible_to, exclude, headers, data)
    select case when t.published_to <> t.stream_id then 'stream_deleted' else 'stream_closed' end,
      t.published_at, t.published_to, t.stream, t.type, t.key, t.visible_to, t.exclude, t.headers, t.data
    from taken t where t.closed or t.published_to <> t.stream_id
    order by t.id
    returning 1
  )
  -- Added up in one go: joined to the streams, this would cost their number times that of the rows.
  select r.id, max(r.head), sum(r.moved)::bigint, sum(r.refused)::bigint, bool_or(r.cut) from (
    select s.id, s.head, 0 as moved, 0 as refused, s.cut is not null as cut from stream s
    union all select p.stream_id, p."offset", 1, 0, false from placed p
    union all select t.stream_id, null, 0, 1, false from taken t where t.closed or t.published_to <> t.stream_id
  ) r group by r.id;
end
$$;
