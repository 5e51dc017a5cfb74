-- Hands out what is due again in a group, and in a keyed group what was dealt out, under a lease: a part of claim, which
-- says what the columns are, and holds the group. Beside them:
--
--   handed    how many events; bytes, of their data
--   dealt     how many of the log were dealt out to partitions, because nothing else was there
--   missed    how many are handed out no more, because the log let go of them
--   suspect   whether they are to be handled by themselves
--   left      whether something that is due was left
--   held      in a keyed group: the leases that are there now, of the partitions in busy
--
-- p_held, p_low and p_due_low are of the group's state.
create or replace function :"schema".claim_pieces(
  p_group bigint,
  p_stream bigint,
  p_partitions integer,
  p_token uuid,
  p_member uuid,
  p_trimmed bigint,
  p_from bigint,
  p_now timestamptz,
  p_since double precision,
  p_lease_ms double precision,
  p_room bigint,
  p_max integer,
  p_max_bytes bigint,
  p_members integer,
  p_blocked text[],
  p_held uuid[],
  p_low bigint,
  p_due_low timestamptz,
  out offsets bigint[], out data text, out types text, out tags integer[], out at_ms bigint[], out attempts integer[],
  out keys text, out rest text,
  out handed bigint, out bytes bigint, out dealt bigint, out missed bigint, out suspect boolean, out "left" boolean,
  out held uuid[], out busy integer[]
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
declare
  c_deal constant integer := 1000; -- events dealt out at least, when there are so many
  c_steps constant integer := 20; -- pieces emptied by keys that wait, in one call
  v_since timestamptz := coalesce(case when p_partitions is null then to_timestamp(p_since) end, '-infinity');
  v_blocked bigint[] := array(select :"schema".key_hash(k, null) from unnest(p_blocked) k);
  v_pieces bigint[];
  v_mine integer[];
  v_others integer[];
begin
  handed := 0;
  bytes := 0;
  dealt := 0;
  missed := 0;
  suspect := false;
  "left" := false;
  if p_partitions is not null then
    -- By their tokens: among all leases of the group are those that are over, behind an old snapshot any number of them.
    if p_held is null then
      p_held := array(select distinct l.token from :"schema".leases l where l.group_id = p_group);
    end if;
    select coalesce(array_agg(distinct l.token), '{}'),
      coalesce(array_agg(distinct l.partition) filter (where l.member = p_member), '{}'),
      coalesce(array_agg(distinct l.partition) filter (where l.member <> p_member), '{}')
    into held, v_mine, v_others from :"schema".leases l where l.token = any (p_held);
    busy := v_mine || v_others;
  end if;
  for v_step in 1 .. c_steps loop
    v_pieces := :"schema".due_pieces(p_group, p_now, v_since, p_room, p_partitions, v_mine, v_others, p_members, v_blocked,
      p_low, p_due_low);
    exit when p_partitions is null;
    if cardinality(v_pieces) = 0 then
      exit when dealt > 0;
      dealt := :"schema".dispatch(p_group, p_stream, p_partitions, p_from, greatest(p_max, c_deal), p_low, p_due_low) - p_from;
      exit when dealt = 0;
    else
      -- What is chosen is looked at as it is: another choice could hold what nobody has looked at.
      exit when :"schema".park_blocked(p_group, p_stream, v_pieces, v_blocked) = 0;
      v_pieces := '{}';
      "left" := v_step = c_steps;
    end if;
  end loop;
  if cardinality(v_pieces) = 0 then
    return;
  end if;
  -- Here and below, v_pieces is named once more wherever rows of them are looked up: nobody can guess how many events they
  -- have, and a plan for very many would read all pieces there are. And lower(events), not first_offset: with the statistics
  -- of a quiet moment, an index that has that one is as good as that of ids, and all of it is read.
  -- What the log has let go of meanwhile cannot be handed out any more.
  with gone as materialized (
    select p.id, p.events * int8multirange(int8range(null, p_trimmed + 1)) as events
    from :"schema".pieces p where p.id = any (v_pieces) and lower(p.events) <= p_trimmed
  ), emptied as (
    delete from :"schema".pieces p using gone g where p.id = any (v_pieces) and p.id = g.id and p.events <@ g.events
  ), cut as (
    update :"schema".pieces p set events = p.events - g.events
    from gone g where p.id = any (v_pieces) and p.id = g.id and not p.events <@ g.events
  )
  select coalesce(sum(upper(r) - lower(r)), 0) into missed from gone g, unnest(g.events) r;
  -- offset 0: the events are looked up range by range, also by a plan made while there were few.
  with chosen as materialized (
    select p.id, w.nth, p.attempts + 1 as attempts, p.strikes, p.suspect, p.partition, p.events
    from unnest(v_pieces) with ordinality w (id, nth) join :"schema".pieces p on p.id = w.id
    where p.id = any (v_pieces)
  ), before as materialized ( -- 'infinity': what is due at a time is of one key, and has its hash
    select p.partition, min(p.first_offset) as first_offset from :"schema".due_rows(p_group, p_now, p_low, 'infinity') p
    where p_partitions is not null and p.key_hash is null and p.id <> all (v_pieces) group by p.partition
  ), event as materialized (
    select c.id, c.attempts as handed, e.*,
      row_number() over w as rank, coalesce(sum(e.size) over (w rows between unbounded preceding and 1 preceding), 0) as before
    from chosen c cross join lateral (
      select r from unnest(:"schema".first_offsets(c.events, p_room)) r
    ) f
    cross join lateral (
      select x.* from :"schema".events x
      where x.stream_id = p_stream and x."offset" >= lower(f.r) and x."offset" < upper(f.r) offset 0
    ) e
    -- Of a partition, nothing goes before what waits there and was not chosen: it may have the same key.
    where p_partitions is null or not exists (
      select from before b where b.partition = c.partition and b.first_offset <= e."offset")
    window w as (order by case when p_partitions is null then c.nth end, e."offset")
  ), kept as materialized (
    select e.* from event e where e.rank <= p_room and e.before < p_max_bytes
  ), taken as materialized (
    select k.id, range_agg(int8range(k."offset", k."offset" + 1)) as events from kept k group by k.id
  ), leased as (
    -- One row for all that is alike, and not for each piece: retries come by the hundred.
    insert into :"schema".leases (token, n, group_id, member, open, attempts, strikes, suspect, partition, claimed_at, expires_at)
    select p_token, min(c.nth), p_group, p_member, range_agg(r), c.attempts, c.strikes, c.suspect, c.partition,
      p_now, p_now + p_lease_ms * interval '1 ms'
    from taken t join chosen c on c.id = t.id cross join lateral unnest(t.events) r
    group by c.attempts, c.strikes, c.suspect, c.partition
  ), removed as (
    delete from :"schema".pieces p using taken t where p.id = any (v_pieces) and p.id = t.id
    returning p.*, p.events - t.events as rest
  ), cut as ( -- a row of its own: one that is updated has a dead version for each claim
    insert into :"schema".pieces (group_id, events, due_at, attempts, strikes, suspect, partition, key_hash, error)
    select r.group_id, r.rest, r.due_at, r.attempts, r.strikes, r.suspect, r.partition, r.key_hash, r.error
    from removed r where not isempty(r.rest)
  )
  select array_agg(e."offset"), string_agg(e.data::text, e'\u001e'), string_agg(coalesce(e.type, ''), e'\u001e'),
    array_agg(e.tag), array_agg(floor(date_part('epoch', e.at) * 1000)::bigint), array_agg(e.handed),
    (json_object_agg(e."offset", e.key) filter (where e.key is not null))::text,
    (json_object_agg(e."offset", json_build_array(e.visible_to, e.exclude, e.headers::text))
      filter (where e.visible_to is not null or e.exclude is not null or e.headers is not null))::text,
    count(*), coalesce(sum(e.size), 0)
  into offsets, data, types, tags, at_ms, attempts, keys, rest, handed, bytes
  from (select k.* from kept k order by k."offset") e;
  select coalesce(bool_or(l.suspect), false), array_agg(distinct l.partition) into suspect, v_mine
  from :"schema".leases l where l.token = p_token;
  "left" := "left" or handed >= p_room or suspect or bytes >= p_max_bytes;
  if p_partitions is not null and handed > 0 then
    held := held || p_token;
    busy := busy || v_mine;
  end if;
  if handed > 0 and not "left" then
    "left" := case when p_partitions is null then exists (
      select from :"schema".pieces p
      where p.group_id = p_group and p.due_at >= v_since and p.due_at <= p_now and p.key_hash is null)
    else exists (
      select from :"schema".due_rows(p_group, p_now, p_low, 'infinity') p where p.key_hash is null and p.partition = any (v_mine))
    end;
  end if;
end
$$;
