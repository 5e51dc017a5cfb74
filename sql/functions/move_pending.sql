-- Moves committed outbox rows of the given streams into their logs. THE place where a published event gets its offset.
--
-- The caller holds the row lock of every stream given, taken in an EARLIER statement: this function's snapshots must
-- be younger than the lock, or the head is stale. Rows leave the outbox by the same statement that inserts the events,
-- so a row is moved once or not at all, whoever else looks at it. Never `skip locked` here: that would reorder.
--
-- Order: by outbox id, the events of one transaction together at the place of its first. With p_limit a stream that has
-- more pending is cut there, but never inside a transaction, and a long backlog is taken in eighths, so that looking
-- for the rest of the cut transactions stays a small part of the work. Null: no cut, for a caller who knows that
-- little is pending.
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
      greatest(v_now, last.at) as at, c.cut
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
    select distinct s.id, o.xid from stream s join :"schema".outbox o on o.stream = any (array[s.name]) and o.id < s.cut
  ), taken as (
    delete from :"schema".outbox o using stream s
    where o.stream = any (array[s.name])
      and (s.cut is null or o.id < s.cut or (s.id, o.xid) in (select w.id, w.xid from whole w))
    returning s.id as stream_id, o.stream_id as published_to, s.closed, s.head, s.at, o.id, o.xid, o.published_at,
      o.stream, o.type, o.key, o.headers, o.data
  ), grouped as (
    select t.*, min(t.id) over (partition by t.stream_id, t.xid) as first_id from taken t
    where not t.closed and (t.published_to is null or t.published_to = t.stream_id)
  ), placed as (
    insert into :"schema".events (stream_id, "offset", at, tag, size, type, key, headers, data)
    select g.stream_id, g.head + row_number() over (partition by g.stream_id order by g.first_id, g.id), g.at,
      (random() * 4294967295 - 2147483648)::integer, octet_length(g.data::text), g.type, g.key, g.headers, g.data
    from grouped g
    returning stream_id, "offset"
  ), refused as (
    insert into :"schema".undeliverable (reason, published_at, stream_id, stream, type, key, headers, data)
    select case when t.published_to <> t.stream_id then 'stream_deleted' else 'stream_closed' end,
      t.published_at, t.published_to, t.stream, t.type, t.key, t.headers, t.data
    from taken t where t.closed or t.published_to <> t.stream_id
    order by t.id
    returning 1
  )
  -- Added up in one go: joined to the streams, this would cost their number times that of the rows.
  select r.id, max(r.head), sum(r.moved)::bigint, sum(r.taken - r.moved)::bigint, bool_or(r.cut) from (
    select s.id, s.head, 0 as moved, 0 as taken, s.cut is not null as cut from stream s
    union all select p.stream_id, p."offset", 1, 0, false from placed p
    union all select t.stream_id, null, 0, 1, false from taken t
  ) r group by r.id;
end
$$;
