-- A candidate for the outbox that was not chosen: nothing is ever updated or deleted. Each pass over a stream records
-- the snapshot it saw (a tick); what is new since is what that snapshot could not see. Fair, but only as complete as a
-- measurement needs: one pass at a time, no cut of a long backlog, no closed or deleted streams, no doorbell.
create schema ticks;

create table ticks.streams (
  id bigint generated always as identity primary key,
  name text collate "C" not null unique
);

create table ticks.events (
  stream_id bigint not null,
  "offset" bigint not null check ("offset" > 0),
  at timestamptz not null,
  tag integer not null,
  size integer not null,
  type text,
  key text,
  headers json,
  data json not null,
  primary key (stream_id, "offset")
);

create sequence ticks.outbox_id as bigint cache 1;
create sequence ticks.outbox_slot as bigint minvalue 0 maxvalue 2 start 0;

create table ticks.outbox (
  slot smallint not null,
  id bigint not null default nextval('ticks.outbox_id'),
  xid xid8 not null default pg_current_xact_id(), -- compared with snapshots: a restore into another cluster must rewrite it
  published_at timestamptz not null default clock_timestamp(),
  stream_id bigint,
  stream text collate "C" not null,
  type text,
  key text,
  headers json,
  data json not null
) partition by list (slot);

create table ticks.outbox_0 partition of ticks.outbox for values in (0);
create table ticks.outbox_1 partition of ticks.outbox for values in (1);
create table ticks.outbox_2 partition of ticks.outbox for values in (2);

-- serves: which streams there are, and what is new in one of them since a snapshot
create index outbox_stream_xid on ticks.outbox (stream, xid);

-- The last tick of a stream says what is in its log: all its rows that the snapshot could see.
create table ticks.ticks (
  stream_id bigint not null,
  id bigint generated always as identity,
  snapshot pg_snapshot not null,
  primary key (stream_id, id)
);

create function ticks.publish(p_stream text, p_data json, p_type text) returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id bigint;
  v_stream_id bigint;
begin
  select s.id into v_stream_id from ticks.streams s where s.name = p_stream;
  insert into ticks.outbox (slot, stream_id, stream, type, data)
  select c.last_value, v_stream_id, p_stream, p_type, p_data from ticks.outbox_slot c
  returning id into v_id;
  return v_id;
end
$$;

create function ticks.last_tick(p_stream_id bigint) returns pg_snapshot
language sql stable
return coalesce(
  (select t.snapshot from ticks.ticks t where t.stream_id = p_stream_id order by t.id desc limit 1),
  '1:1:'::pg_snapshot -- before everything
);

create function ticks.pass() returns table (moved bigint, more boolean)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_stream record;
  v_last pg_snapshot;
  v_xmax xid8;
  v_xip xid8[];
  v_count bigint;
begin
  moved := 0;
  more := false;
  for v_stream in
    with recursive seen (name) as (
      (select o.stream from ticks.outbox o order by o.stream limit 1)
      union all
      (select (select o.stream from ticks.outbox o where o.stream > seen.name order by o.stream limit 1)
       from seen where seen.name is not null)
    )
    select s.id, s.name from seen join ticks.streams s on s.name = seen.name
  loop
    -- A look without the lock first: taking it is a write, which would be flushed for nothing.
    v_last := ticks.last_tick(v_stream.id);
    v_xmax := pg_snapshot_xmax(v_last);
    v_xip := array(select pg_snapshot_xip(v_last));
    continue when not exists (select from ticks.outbox o where o.stream = v_stream.name and o.xid >= v_xmax)
      and not exists (select from ticks.outbox o where o.stream = v_stream.name and o.xid = any (v_xip));
    perform from ticks.streams s where s.id = v_stream.id for no key update skip locked;
    continue when not found;
    v_last := ticks.last_tick(v_stream.id);
    v_xmax := pg_snapshot_xmax(v_last);
    v_xip := array(select pg_snapshot_xip(v_last));
    with fresh as materialized (
      select o.* from ticks.outbox o where o.stream = v_stream.name and o.xid >= v_xmax
      union all
      select o.* from ticks.outbox o where o.stream = v_stream.name and o.xid = any (v_xip)
    ), grouped as (
      select f.*, min(f.id) over (partition by f.xid) as first_id from fresh f
    ), placed as (
      insert into ticks.events (stream_id, "offset", at, tag, size, type, key, headers, data)
      select v_stream.id,
        coalesce((select e."offset" from ticks.events e where e.stream_id = v_stream.id order by e."offset" desc limit 1), 0)
          + row_number() over (order by g.first_id, g.id),
        clock_timestamp(), (random() * 4294967295 - 2147483648)::integer, octet_length(g.data::text), g.type, g.key,
        g.headers, g.data
      from grouped g
      returning 1
    ), ticked as (
      insert into ticks.ticks (stream_id, snapshot)
      select v_stream.id, pg_current_snapshot() where exists (select from fresh)
    )
    select count(*) into v_count from placed;
    moved := moved + v_count;
  end loop;
  return next;
end
$$;

-- Truncates another slot, all of whose rows are in the logs, and makes it the current one.
create function ticks.rotate_outbox(p_min_bytes bigint) returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  v_current bigint;
  v_slot bigint;
  v_table text;
  v_done boolean;
begin
  select c.last_value into v_current from ticks.outbox_slot c;
  if pg_relation_size(format('ticks.outbox_%s', v_current)::regclass) < p_min_bytes then
    return -1;
  end if;
  for v_slot in select (v_current + n) % 3 from generate_series(1, 2) n loop
    v_table := 'ticks.outbox_' || v_slot;
    begin
      execute 'lock table ' || v_table || ' in access exclusive mode nowait';
      execute 'select not exists (
        select from ' || v_table || ' o join ticks.streams s on s.name = o.stream
          join lateral (select ticks.last_tick(s.id) as snapshot offset 0) t on true
        where not pg_visible_in_snapshot(o.xid, t.snapshot))' into v_done;
      if v_done then
        execute 'truncate ' || v_table;
        perform setval('ticks.outbox_slot', v_slot);
        return v_slot;
      end if;
    exception when lock_not_available then
      null;
    end;
  end loop;
  return null;
end
$$;
