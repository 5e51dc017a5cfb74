-- Hands events of a group out under a lease: what is due again first, then what comes next in the log. At most p_max of
-- them, and no more once they have p_max_bytes of data. They stand side by side in one row, since a row for each would
-- cost the client more than all the rest:
--
--   first_offset, offsets   of the events, in order; null: they are dense from the first
--   data, types             separated by U+001E, which they cannot contain; an empty type: it has none
--   tags, at_ms, attempts   attempts, this one included, are null if it is everybody's first
--   keys                    a JSON object by offset; null: none has any
--   rest                    likewise, of arrays: visible_to, exclude and headers as text, of those that have one of them
--
-- Numbers are the text of an array; data is null if there are no events. Beside them meta, a JSON object:
--
--   expiresAt   when the lease ends, in milliseconds since 1970 (null: nothing was handed out)
--   cursor      up to where the group has come
--   suspect     whether it is to be handled by itself: it may have taken a consumer down
--   more        whether there is more to be had now
--   dueInMs     when something will be due again (null: nothing is known to)
--   endsInMs    only without p_since, and not while paused: until the next lease of somebody else ends, if nobody extends
--               it; 0: some have ended, and were left (null: there is none)
--   lookedAt    give it as p_since (seconds since 1970), so that the next call need not look at what was due before
--   others      whether there is something for other members, which this one may not have (keyed groups)
--   elsewhere   without p_since: whether that is so of what was to come again by now
--   missed      how many events the log let go of before they were handled
--   dead        how many events of expired leases were given up
--   paused      whether the group is
--   kept        those of p_done that settle is to be told (null: none)
--
-- Without p_since it looks at everything that is due, however long, and at leases that have expired: now and then, since
-- what a long transaction left is not seen otherwise, but not each time, since behind an old snapshot the index is full
-- of what is done. p_per_second bounds the rate of the whole group. p_done are leases of a group without partitions all of
-- which is done: they end here, without a statement for each; but nothing is waited for.
--
-- Where what is due has waited for more than a second, there is more of it than anybody gets through: half of the claims
-- then go to the log, lest nothing new be handed out until all of it is done. Not in keyed groups, whose order decides.
--
-- An event that comes alone meets few statements and expressions here: to begin each is nearly all that its claim costs.
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
  p_blocked text[] default '{}',
  p_done uuid[] default '{}',
  out first_offset bigint, out offsets text, out data text, out types text, out tags text, out at_ms text,
  out attempts text, out keys text, out rest text, out meta text
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  c_stall constant integer := 100; -- claims
  c_held constant integer := 1000; -- of more leases the state does not tell: it is written anew by each claim
  c_slack constant interval := '1 s'; -- between the time that a row names and its commit
  c_late constant interval := '1 s'; -- what is due for longer than that may be passed over
  v_group record;
  v record;
  v_pieces record;
  v_room bigint;
  v_next_at timestamptz;
  v_handed bigint; -- events, of either kind
  v_fresh bigint; -- so many of the next in the log were handed out, or dealt out to partitions
  v_count bigint;
  v_missed bigint;
  v_dead bigint;
  v_bytes bigint;
  v_suspect boolean;
  v_left boolean; -- something that is due was left
  v_passed boolean; -- what is due was passed over this time
  v_more boolean;
  v_others boolean;
  v_elsewhere boolean;
  v_due timestamptz;
  v_ends timestamptz;
  v_done uuid[];
  v_kept uuid[];
  v_held uuid[]; -- in keyed groups, as the next two
  v_busy integer[];
  v_low bigint;
  v_low_seq bigint;
  v_due_low timestamptz;
begin
  select g.stream_id, g.partitions, g.paused_at is not null as paused, current_setting('transaction_isolation') as isolation
  into v_group from :"schema".groups g where g.id = p_group for no key update;
  if v_group.isolation <> 'read committed' then
    perform :"schema".require_read_committed();
  end if;
  if cardinality(p_done) > 0 then
    with gone as (
      delete from :"schema".leases l where l.ctid = any (array(
        select d.ctid from :"schema".leases d
        where d.token = any (p_done) and d.expires_at > clock_timestamp() for update skip locked
      )) returning l.token
    ) select array_agg(g.token) into v_done from gone g;
    delete from :"schema".acks a where a.token = any (v_done); -- those that were told of before
    v_kept := array(
      select t from unnest(p_done) t
      where t <> all (coalesce(v_done, '{}')) or exists (select from :"schema".leases l where l.token = t));
  end if;
  if p_since is null and not v_group.paused then
    v_dead := :"schema".reap_leases(p_group, p_max_attempts);
  end if;
  -- Later statements: their snapshots are younger than the lock.
  select t.*, s.trimmed_to, greatest(t."offset", s.trimmed_to) as "from", f.last, f.bytes, clock_timestamp() as now, (
    select p.due_at from :"schema".pieces p
    where p.group_id = p_group and p.due_at >= case when v_group.partitions is null
      then coalesce(to_timestamp(p_since), '-infinity') else statement_timestamp() end
    order by p.due_at limit 1
  ) as due_at
  into v from :"schema".streams s cross join lateral (
    select x.* from :"schema".group_states x where x.group_id = p_group order by x.seq desc limit 1
  ) t cross join lateral (
    select max(e."offset") as last, sum(e.size) as bytes from :"schema".events e
    where e.stream_id = s.id and e."offset" > greatest(t."offset", s.trimmed_to)
      and e."offset" <= greatest(t."offset", s.trimmed_to) + case when v_group.partitions is null and not v_group.paused
        then least(p_max, ceil(p_per_second)) + 1 else 0 end::bigint
  ) f where s.id = v_group.stream_id;
  if not found then
    raise exception 'the group is gone: it was deleted, or its stream was' using errcode = 'SL001';
  end if;
  v_room := case when v_group.paused then 0 else p_max end;
  v_next_at := v.next_at;
  if p_per_second is not null then
    v_next_at := greatest(v_next_at, v.now - greatest(1 / p_per_second, 0.1) * interval '1 s');
    v_room := least(v_room, floor(date_part('epoch', v.now - v_next_at) * p_per_second + 1e-6)::bigint);
  end if;
  v_missed := v."from" - v."offset";
  v_due_low := coalesce(case when p_since is not null then v.due_low end, '-infinity');

  if v_room > 0 and (v_group.partitions is not null or v.due_at <= v.now) then
    v_passed := v_group.partitions is null and v.due_at < v.now - c_late and v.last > v."from" and random() < 0.5;
    if v_passed is not true then
      select c.* into v_pieces from :"schema".claim_pieces(p_group, v_group.stream_id, v_group.partitions, p_token, p_member,
        v.trimmed_to, v."from", v.now, p_since, p_lease_ms, v_room, p_max, p_max_bytes, p_members, p_blocked,
        v.held, coalesce(v.low, 0), v_due_low) c;
      v_handed := v_pieces.handed;
      v_missed := v_missed + v_pieces.missed;
      v_suspect := v_pieces.suspect;
      v_left := v_pieces."left";
      v_fresh := v_pieces.dealt;
      v_bytes := v_pieces.bytes;
      v_held := v_pieces.held;
      v_busy := v_pieces.busy;
    end if;
  end if;
  if v_room > 0 and v.last > v."from" and v_left is not true then
    v_fresh := least(v.last - v."from", v_room - coalesce(v_handed, 0));
    if v.bytes > p_max_bytes - coalesce(v_bytes, 0) then
      select max(e."offset") - v."from" into v_fresh from (
        select x."offset", coalesce(sum(x.size) over (order by x."offset" rows between unbounded preceding and 1 preceding), 0) as before
        from :"schema".events x
        where x.stream_id = v_group.stream_id and x."offset" > v."from" and x."offset" <= v."from" + v_fresh
      ) e where e.before < p_max_bytes - coalesce(v_bytes, 0);
    end if;
  end if;
  if v_group.partitions is not null then
    if v_room <= 0 then
      v_held := v.held;
    end if;
    select coalesce((
      select p.first_offset from :"schema".pieces p
      where p.group_id = p_group and p.due_at = 'epoch' and p.first_offset >= coalesce(v.low, 0)
      order by p.first_offset limit 1
    ), v."from" + coalesce(v_fresh, 0) + 1), least(v.now, (
      select p.due_at from :"schema".pieces p
      where p.group_id = p_group and p.due_at > 'epoch' and p.due_at >= v_due_low order by p.due_at limit 1)) - c_slack
    into v_low, v_due_low;
    v_low_seq := case when v_low = v.low then v.low_seq else v.seq + 1 end;
    if v.seq >= v_low_seq + c_stall then
      -- One partition keeps it where it is: what is dealt out to that one is looked at from now on with what comes again.
      update :"schema".pieces p set due_at = '-infinity'
      where p.group_id = p_group and p.due_at = 'epoch' and p.first_offset >= v_low and p.partition = (
        select x.partition from :"schema".pieces x where x.group_id = p_group and x.due_at = 'epoch' and x.first_offset = v_low);
    end if;
  end if;
  v_handed := coalesce(v_handed, 0) + case when v_group.partitions is null then coalesce(v_fresh, 0) else 0 end;

  if v_fresh > 0 or v_missed > 0 or v_handed > 0 and (p_per_second is not null or v_group.partitions is not null) then
    with leased as (
      insert into :"schema".leases (token, n, group_id, member, open, attempts, strikes, suspect, claimed_at, expires_at)
      select p_token, 0, p_group, p_member, int8multirange(int8range(v."from" + 1, v."from" + v_fresh + 1)), 1, 0, false,
        v.now, v.now + p_lease_ms * interval '1 ms'
      where v_group.partitions is null and v_fresh > 0
    ), moved as (
      insert into :"schema".group_states (group_id, seq, "offset", next_at, mark_at, mark_offset, last_mark_at, last_mark_offset,
        held, low, low_seq, due_low)
      select p_group, v.seq + 1, v."from" + coalesce(v_fresh, 0),
        v_next_at + coalesce(v_handed / p_per_second * interval '1 s', interval '0'),
        case when m.turn then v.now else v.mark_at end, case when m.turn then v."offset" else v.mark_offset end,
        case when m.turn then v.mark_at else v.last_mark_at end, case when m.turn then v.mark_offset else v.last_mark_offset end,
        case when cardinality(v_held) <= c_held then v_held end, v_low, v_low_seq, case when v_group.partitions is not null then v_due_low end
      from (select v.now > v.mark_at + interval '30 s' as turn) m
    ), removed as (
      delete from :"schema".group_states x where x.group_id = p_group and x.seq = v.seq
    )
    select count(*), min(e."offset"), string_agg(e.data::text, e'\u001e'), string_agg(coalesce(e.type, ''), e'\u001e'),
      array_agg(e.tag)::text, array_agg(floor(date_part('epoch', e.at) * 1000)::bigint)::text,
      (json_object_agg(e."offset", e.key) filter (where e.key is not null))::text,
      (json_object_agg(e."offset", json_build_array(e.visible_to, e.exclude, e.headers::text))
        filter (where e.visible_to is not null or e.exclude is not null or e.headers is not null))::text
    into v_count, first_offset, data, types, tags, at_ms, keys, rest
    from (
      select x.* from :"schema".events x
      where x.stream_id = v_group.stream_id and x."offset" > v."from"
        and x."offset" <= v."from" + case when v_group.partitions is null then v_fresh else 0 end
      order by x."offset"
    ) e;
    if v_count < v_fresh and v_group.partitions is null then -- the log let go of them between the two statements
      v_missed := v_missed + v_fresh - v_count;
      v_handed := v_handed - v_fresh + v_count;
      delete from :"schema".leases l where l.token = p_token and l.n = 0 and v_count = 0;
      update :"schema".leases l set open = l.open * int8multirange(int8range(claim.first_offset, null))
      where l.token = p_token and l.n = 0 and v_count > 0;
    end if;
  end if;
  if v_handed > coalesce(v_count, 0) then -- what was due comes first
    offsets := array_cat(v_pieces.offsets, array(select generate_series(first_offset, v."from" + v_fresh)))::text;
    attempts := array_cat(v_pieces.attempts, array_fill(1, array[coalesce(v_count, 0)::integer]))::text;
    tags := array_cat(v_pieces.tags, tags::integer[])::text;
    at_ms := array_cat(v_pieces.at_ms, at_ms::bigint[])::text;
    data := concat_ws(e'\u001e', v_pieces.data, data);
    types := concat_ws(e'\u001e', v_pieces.types, types);
    keys := coalesce(left(v_pieces.keys, -1) || ',' || substr(keys, 2), v_pieces.keys, keys);
    rest := coalesce(left(v_pieces.rest, -1) || ',' || substr(rest, 2), v_pieces.rest, rest);
  end if;
  if v_missed > 0 then
    update :"schema".groups g set missed = g.missed + v_missed where g.id = p_group;
  end if;

  v_due := v.due_at;
  if p_since is null or v.due_at <= v.now then
    v_due := (select p.due_at from :"schema".pieces p where p.group_id = p_group and p.due_at > v.now order by p.due_at limit 1);
  end if;
  if p_since is null and not v_group.paused then
    v_ends := coalesce((
      -- Not those that somebody is acknowledging: how long that takes, nobody knows.
      select l.expires_at from :"schema".leases l
      where l.group_id = p_group and l.expires_at <= v.now order by l.expires_at limit 1 for update skip locked
    ), (
      select l.expires_at from :"schema".leases l
      where l.group_id = p_group and l.expires_at > v.now and l.token <> p_token order by l.expires_at limit 1
    ));
  end if;
  v_left := coalesce(v_left, false) or coalesce(v_passed, false);
  v_more := v_left or coalesce(v.last > v."from" + coalesce(v_fresh, 0), false)
    or v_room <= 0 and not v_group.paused and coalesce(v.due_at <= v.now, false);
  if v_group.partitions is not null then
    -- Where nothing came of it there is no more either: what is dealt out already, or waits, has a bound.
    v_more := v_left or (v_handed > 0 or v_fresh > 0) and exists (
        select from :"schema".events e where e.stream_id = v_group.stream_id and e."offset" = v."from" + v_fresh + 1);
    if v_room <= 0 and not v_group.paused then
      v_more := v_more or exists (select from :"schema".due_rows(p_group, v.now, v_low, v_due_low));
    end if;
    if v_fresh > 0 then
      v_others := exists (
        select from :"schema".due_rows(p_group, v.now, v_low, v_due_low) p where p.partition <> all (v_busy));
    end if;
    if p_since is null then
      v_elsewhere := exists (
        select from :"schema".pieces p
        where p.group_id = p_group and p.due_at > 'epoch' and p.due_at <= v.now
          and not exists (
            select from :"schema".leases l where l.token = any (v_held) and l.partition = p.partition and l.member = p_member)
          and not exists (
            select from :"schema".pieces w
            where w.group_id + 0 = p_group and w.partition = p.partition and w.key_hash = p.key_hash
              and w.first_offset + 0 < p.first_offset));
    end if;
  end if;
  if p_per_second is not null and v_more and v_handed >= v_room then
    v_more := false;
    v_due := v_next_at + (v_handed + 1) / p_per_second * interval '1 s';
  end if;
  meta := json_build_object(
    'expiresAt', case when v_handed > 0 then date_part('epoch', v.now + p_lease_ms * interval '1 ms') * 1000 end,
    'cursor', (v."from" + coalesce(v_fresh, 0))::text,
    'suspect', coalesce(v_suspect, false),
    'more', v_more,
    'dueInMs', case when v_due is not null then greatest(date_part('epoch', v_due - clock_timestamp()) * 1000, 0) end,
    'endsInMs', case when v_ends is not null then greatest(date_part('epoch', v_ends - clock_timestamp()) * 1000, 0) end,
    -- Nothing is left of what was due before the first that was found.
    'lookedAt', case when v_room > 0 then date_part('epoch', case
      when not v_left then v.now when v_group.partitions is null then v.due_at end) end,
    'others', coalesce(v_others, false),
    'elsewhere', coalesce(v_elsewhere, false),
    'missed', v_missed,
    'dead', coalesce(v_dead, 0),
    'paused', v_group.paused,
    'kept', v_kept)::text;
end
$$;
