-- Hands events of a group out under a lease: what is due again first, then what comes next in the log. At most p_max of
-- them, and no more once they have p_max_bytes of data. Returns a row for each of the two that there is something of,
-- with its events side by side, since a row for each would cost the client more than all the rest:
--
--   first_offset, offsets   of the events, in order, separated by commas; null: they are dense from the first
--   data, headers           JSON texts, separated by U+001E, which they cannot contain; null: none has headers
--   tags, at_ms, attempts   separated by commas; attempts, this one included, are null if it is everybody's first
--   types, keys, visible_to, exclude   JSON objects by the number of the event from 1; null: none has any
--
-- and a last row that has only meta, a JSON object:
--
--   expiresAt   when the lease ends, in milliseconds since 1970 (absent: nothing was handed out)
--   cursor      up to where the group has come
--   suspect     whether it is to be handled by itself: it may have taken a consumer down
--   more        whether there is more to be had now
--   dueInMs     when something will be due again, or a lease end (absent: nothing is known to)
--   lookedAt    give it as p_since (seconds since 1970), so that the next call need not look at what was due before
--   others      whether there is something for other members, which this one may not have (keyed groups)
--   missed      how many events the log let go of before they were handled
--   dead        how many events of expired leases were given up
--   paused      whether the group is
--
-- Without p_since it looks at everything that is due, however long, and at leases that have expired: now and then, since
-- what a long transaction left is not seen otherwise, but not each time, since behind an old snapshot the index is full
-- of what is done. p_per_second bounds the rate of the whole group.
create or replace function :"schema".claim(
  p_group bigint,
  p_token uuid,
  p_member uuid,
  p_max integer,
  p_max_bytes bigint,
  p_lease_ms double precision,
  p_max_attempts integer,
  p_since double precision default null,
  p_per_second double precision default null,
  p_members integer default 1,
  p_blocked text[] default '{}'
) returns table (
  first_offset bigint, offsets text, data text, tags text, at_ms text, attempts text, types text, keys text,
  visible_to text, exclude text, headers text, meta text
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  c_deal constant integer := 1000; -- events dealt out at least, when there are so many
  c_steps constant integer := 20; -- pieces emptied by keys that wait, in one call
  c_mark constant interval := '30 s';
  v_stream bigint;
  v_partitions integer;
  v_paused boolean;
  v_trimmed bigint;
  v_state record;
  v_cursor bigint;
  v_next_at timestamptz;
  v_turn boolean;
  v_now timestamptz;
  v_since timestamptz := coalesce(to_timestamp(p_since), '-infinity');
  v_expires timestamptz;
  v_from bigint;
  v_missed bigint := 0;
  v_dead bigint := 0;
  v_room bigint := p_max;
  v_taken bigint := 0;
  v_fresh bigint := 0;
  v_bytes bigint := 0;
  v_pieces bigint[] := '{}';
  v_suspect boolean := false;
  v_blocked bigint[] := array(select :"schema".key_hash(k, null) from unnest(p_blocked) k);
  v_more boolean := false;
  v_due timestamptz;
begin
  perform :"schema".require_read_committed();
  select g.stream_id, g.partitions, g.paused_at is not null into v_stream, v_partitions, v_paused
  from :"schema".groups g where g.id = p_group for no key update;
  -- Later statements: their snapshots are younger than the lock.
  select t.*, s.trimmed_to into v_state from :"schema".streams s cross join lateral (
    select x.* from :"schema".group_states x where x.group_id = p_group order by x.seq desc limit 1
  ) t where s.id = v_stream;
  if not found then
    raise exception 'the group is gone: it was deleted, or its stream was' using errcode = 'SL001';
  end if;
  v_now := clock_timestamp();
  v_cursor := v_state."offset";
  v_next_at := v_state.next_at;
  v_trimmed := v_state.trimmed_to;
  v_from := v_cursor;
  if v_cursor < v_trimmed then
    v_missed := v_trimmed - v_cursor;
    v_from := v_trimmed;
  end if;
  if p_per_second is not null then
    v_next_at := greatest(v_next_at, v_now - greatest(1 / p_per_second, 0.1) * interval '1 s');
    v_room := least(v_room, floor(date_part('epoch', v_now - v_next_at) * p_per_second + 1e-6)::bigint);
  end if;
  if v_paused then
    v_room := 0;
  end if;
  if p_since is null and not v_paused then
    v_dead := :"schema".reap_leases(p_group, p_max_attempts);
    v_now := clock_timestamp();
  end if;
  v_expires := v_now + p_lease_ms * interval '1 ms';

  if v_room > 0 then
    for v_step in 1 .. c_steps loop
      v_pieces := :"schema".due_pieces(p_group, v_now, v_since, v_room, v_partitions, p_member, p_members, v_blocked);
      exit when v_partitions is null;
      if cardinality(v_pieces) = 0 then
        exit when v_fresh > 0;
        v_fresh := :"schema".dispatch(p_group, v_stream, v_partitions, v_from, greatest(p_max, c_deal)) - v_from;
        v_now := clock_timestamp();
        exit when v_fresh = 0;
      else
        -- What is chosen is looked at as it is: another choice could hold what nobody has looked at.
        exit when :"schema".park_blocked(p_group, v_stream, v_pieces, v_blocked) = 0;
        v_pieces := '{}';
        v_more := v_step = c_steps;
      end if;
    end loop;
    if cardinality(v_pieces) > 0 then
      -- What the log has let go of meanwhile cannot be handed out any more.
      with gone as materialized (
        select p.id, p.events * int8multirange(int8range(null, v_trimmed + 1)) as events
        from :"schema".pieces p where p.id = any (v_pieces) and p.first_offset <= v_trimmed
      ), emptied as (
        delete from :"schema".pieces p using gone g where p.id = g.id and p.events <@ g.events
      ), cut as (
        update :"schema".pieces p set events = p.events - g.events from gone g where p.id = g.id and not p.events <@ g.events
      )
      select v_missed + coalesce(sum(upper(r) - lower(r)), 0) into v_missed from gone g, unnest(g.events) r;
      -- offset 0: the events are looked up range by range, also by a plan made while there were few.
      return query
      with chosen as materialized (
        select p.id, w.nth, p.attempts + 1 as attempts, p.strikes, p.suspect, p.partition, p.events
        from unnest(v_pieces) with ordinality w (id, nth) join :"schema".pieces p on p.id = w.id
      ), event as materialized (
        select c.id, c.attempts as handed, e.*,
          row_number() over w as rank, coalesce(sum(e.size) over (w rows between unbounded preceding and 1 preceding), 0) as before
        from chosen c cross join lateral (
          select r from unnest(:"schema".first_offsets(c.events, v_room)) r
        ) f
        cross join lateral (
          select x.* from :"schema".events x
          where x.stream_id = v_stream and x."offset" >= lower(f.r) and x."offset" < upper(f.r) offset 0
        ) e
        -- Of a partition, nothing goes before what waits there and was not chosen: it may have the same key.
        where v_partitions is null or e."offset" < all (
          select p.first_offset from :"schema".pieces p
          where p.group_id = p_group and p.partition = c.partition and p.key_hash is null and p.id <> all (v_pieces)
        )
        window w as (order by case when v_partitions is null then c.nth end, e."offset")
      ), kept as materialized (
        select e.* from event e where e.rank <= v_room and e.before < p_max_bytes
      ), taken as materialized (
        select k.id, range_agg(int8range(k."offset", k."offset" + 1)) as events from kept k group by k.id
      ), leased as (
        insert into :"schema".leases (token, n, group_id, member, open, attempts, strikes, suspect, partition, claimed_at, expires_at)
        select p_token, c.nth, p_group, p_member, t.events, c.attempts, c.strikes, c.suspect, c.partition, v_now, v_expires
        from taken t join chosen c on c.id = t.id
      ), emptied as (
        delete from :"schema".pieces p using taken t where p.id = t.id and p.events <@ t.events
      ), cut as (
        update :"schema".pieces p set events = p.events - t.events from taken t where p.id = t.id and not p.events <@ t.events
      )
      select min(e."offset"), string_agg(e."offset"::text, ','), string_agg(e.data::text, e'\u001e'), string_agg(e.tag::text, ','),
        string_agg(floor(date_part('epoch', e.at) * 1000)::bigint::text, ','), string_agg(e.handed::text, ','),
        (json_object_agg(e.n, e.type) filter (where e.type is not null))::text,
        (json_object_agg(e.n, e.key) filter (where e.key is not null))::text,
        (json_object_agg(e.n, e.visible_to) filter (where e.visible_to is not null))::text,
        (json_object_agg(e.n, e.exclude) filter (where e.exclude is not null))::text,
        case when count(e.headers) > 0 then string_agg(coalesce(e.headers::text, ''), e'\u001e') end, null::text
      from (select k.*, row_number() over (order by k."offset") as n from kept k order by k."offset") e
      having count(*) > 0;
      select coalesce(sum(upper(r) - lower(r)), 0), coalesce(bool_or(l.suspect), false) into v_taken, v_suspect
      from :"schema".leases l cross join lateral unnest(l.open) r where l.token = p_token;
      if v_taken < v_room and v_partitions is null then
        select coalesce(sum(e.size), 0) into v_bytes
        from :"schema".leases l cross join lateral unnest(l.open) r cross join lateral (
          select x.size from :"schema".events x
          where x.stream_id = v_stream and x."offset" >= lower(r) and x."offset" < upper(r) offset 0
        ) e
        where l.token = p_token;
      end if;
      v_more := v_more or v_taken >= v_room or v_suspect or v_bytes >= p_max_bytes or v_taken > 0 and exists (
        select from :"schema".pieces p
        where p.group_id = p_group and p.due_at <= v_now and p.due_at >= v_since and p.key_hash is null
          and (v_partitions is null or p.partition in (select l.partition from :"schema".leases l where l.token = p_token)));
    end if;
    if v_partitions is null and v_taken < v_room and v_bytes < p_max_bytes and not v_suspect then
      select max(e."offset") - v_from into v_fresh from (
        select x."offset", coalesce(sum(x.size) over (order by x."offset" rows between unbounded preceding and 1 preceding), 0) as before
        from :"schema".events x
        where x.stream_id = v_stream and x."offset" > v_from and x."offset" <= v_from + v_room - v_taken
      ) e where e.before < p_max_bytes - v_bytes;
      v_fresh := coalesce(v_fresh, 0);
      return query
      select v_from + 1, null::text, string_agg(e.data::text, e'\u001e'), string_agg(e.tag::text, ','),
        string_agg(floor(date_part('epoch', e.at) * 1000)::bigint::text, ','), null::text,
        (json_object_agg(e.n, e.type) filter (where e.type is not null))::text,
        (json_object_agg(e.n, e.key) filter (where e.key is not null))::text,
        (json_object_agg(e.n, e.visible_to) filter (where e.visible_to is not null))::text,
        (json_object_agg(e.n, e.exclude) filter (where e.exclude is not null))::text,
        case when count(e.headers) > 0 then string_agg(coalesce(e.headers::text, ''), e'\u001e') end, null::text
      from (
        select x.*, x."offset" - v_from as n from :"schema".events x
        where x.stream_id = v_stream and x."offset" > v_from and x."offset" <= v_from + v_fresh order by x."offset"
      ) e having count(*) > 0;
      if v_fresh > 0 then
        insert into :"schema".leases (token, n, group_id, member, open, attempts, strikes, suspect, claimed_at, expires_at)
        values (p_token, 0, p_group, p_member, int8multirange(int8range(v_from + 1, v_from + v_fresh + 1)), 1, 0, false, v_now, v_expires);
      end if;
    end if;
  end if;

  if v_missed > 0 then
    update :"schema".groups g set missed = g.missed + v_missed where g.id = p_group;
  end if;
  if v_from + v_fresh > v_cursor or p_per_second is not null and v_taken + v_fresh > 0 then
    v_turn := v_now > v_state.mark_at + c_mark;
    insert into :"schema".group_states (group_id, seq, "offset", next_at, mark_at, mark_offset, last_mark_at, last_mark_offset)
    values (p_group, v_state.seq + 1, v_from + v_fresh,
      case when p_per_second is null then v_next_at
        else v_next_at + (v_taken + case when v_partitions is null then v_fresh else 0 end) / p_per_second * interval '1 s' end,
      case when v_turn then v_now else v_state.mark_at end,
      case when v_turn then v_cursor else v_state.mark_offset end,
      case when v_turn then v_state.mark_at else v_state.last_mark_at end,
      case when v_turn then v_state.mark_offset else v_state.last_mark_offset end);
    delete from :"schema".group_states x where x.group_id = p_group and x.seq = v_state.seq;
  end if;
  -- Where nothing came of it there is no more either: what is dealt out already, or waits, has a bound.
  v_more := not v_paused and (v_more
    or (v_partitions is null or v_taken > 0 or v_fresh > 0) and exists (
      select from :"schema".events e where e.stream_id = v_stream and e."offset" = v_from + v_fresh + 1)
    or v_room = 0 and exists (
      select from :"schema".pieces p where p.group_id = p_group and p.due_at <= v_now and p.due_at >= v_since));
  if p_per_second is not null and v_more and v_taken + v_fresh >= v_room then
    v_more := false;
    v_due := v_next_at + (v_taken + v_fresh + 1) / p_per_second * interval '1 s';
  else
    v_due := least(
      (select p.due_at from :"schema".pieces p where p.group_id = p_group and p.due_at > v_now order by p.due_at limit 1),
      (select l.expires_at from :"schema".leases l
       where l.group_id = p_group and l.expires_at > v_now and l.token <> p_token order by l.expires_at limit 1));
  end if;
  return query select null::bigint, null::text, null::text, null::text, null::text, null::text, null::text, null::text,
    null::text, null::text, null::text, json_strip_nulls(json_build_object(
      'expiresAt', case when v_taken > 0 or v_partitions is null and v_fresh > 0 then date_part('epoch', v_expires) * 1000 end,
      'cursor', (v_from + v_fresh)::text,
      'suspect', v_suspect,
      'more', v_more,
      'dueInMs', case when v_due is not null then greatest(date_part('epoch', v_due - clock_timestamp()) * 1000, 0) end,
      'lookedAt', case when v_taken < v_room and not v_more then date_part('epoch', v_now) end,
      'others', v_partitions is not null and v_fresh > 0 and exists (
        select from :"schema".pieces p
        where p.group_id = p_group and p.due_at <= v_now and not exists (
          select from :"schema".leases l where l.group_id = p_group and l.partition = p.partition)),
      'missed', v_missed,
      'dead', v_dead,
      'paused', v_paused))::text;
end
$$;
