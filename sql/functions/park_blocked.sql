-- Takes the events out of pieces of a keyed group whose key waits (an earlier one failed and is not done yet, or is in
-- p_blocked): each stands by itself then, behind the one it waits for. Returns how many. The caller holds the group.
create or replace function :"schema".park_blocked(
  p_group bigint, p_stream bigint, p_pieces bigint[], p_blocked bigint[]
) returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
  v_parked bigint;
  v_partitions integer[];
begin
  -- Here and below one partition after the other: of several at once, a plan for few rows would go through those of all.
  if cardinality(p_blocked) = 0 and not exists (
      select from (select distinct x.partition from :"schema".pieces x where x.id = any (p_pieces)) q cross join lateral (
        select from :"schema".pieces p
        where p.group_id + 0 = p_group and p.partition = q.partition and p.key_hash is not null limit 1
      ) w) then
    return 0;
  end if;
  v_partitions := array(select distinct p.partition from :"schema".pieces p where p.id = any (p_pieces));
  with key as materialized ( -- not event by event: behind an old snapshot each key has all that ever failed of it
    select q.partition, x.key_hash, min(x.first_offset) as first_offset,
      (array_agg(x.due_at order by x.first_offset))[1] as due_at
    from unnest(v_partitions) q (partition) cross join lateral (
      select p.key_hash, p.first_offset, p.due_at from :"schema".pieces p
      where p.group_id + 0 = p_group and p.partition = q.partition and p.key_hash is not null offset 0
    ) x group by 1, 2
  ), waiting as materialized (
    select p.id, e."offset", h.hash, coalesce(k.due_at, '-infinity') as due_at
    from :"schema".pieces p cross join lateral unnest(p.events) r
    cross join lateral (
      select x."offset", x.key from :"schema".events x
      where x.stream_id = p_stream and x."offset" >= lower(r) and x."offset" < upper(r) offset 0
    ) e
    cross join lateral (select :"schema".key_hash(e.key, e."offset") as hash) h
    left join key k on k.partition = p.partition and k.key_hash = h.hash and k.first_offset < e."offset"
    where p.id = any (p_pieces) and p.key_hash is null and (k.due_at is not null or h.hash = any (p_blocked))
  ), parked as (
    insert into :"schema".pieces (group_id, events, due_at, attempts, strikes, suspect, partition, key_hash)
    select p_group, int8multirange(int8range(w."offset", w."offset" + 1)), w.due_at, p.attempts, p.strikes, p.suspect,
      p.partition, w.hash
    from waiting w join :"schema".pieces p on p.id = w.id where p.id = any (p_pieces)
  ), taken as (
    select w.id, range_agg(int8range(w."offset", w."offset" + 1)) as events from waiting w group by w.id
  ), emptied as (
    delete from :"schema".pieces p using taken t where p.id = any (p_pieces) and p.id = t.id and p.events <@ t.events
  ), cut as (
    update :"schema".pieces p set events = p.events - t.events
    from taken t where p.id = any (p_pieces) and p.id = t.id and not p.events <@ t.events
  )
  select count(*) into v_parked from waiting;
  return v_parked;
end
$$;
