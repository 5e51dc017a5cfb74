-- The pieces of a group that p_member may be handed now, in order, up to and with the one that fills p_room. What is
-- suspect goes alone. The caller holds the group.
--
-- In a keyed group a partition is with one member at a time, whoever has events of it in hand (p_mine, p_others); a member
-- takes its share of the partitions at most (p_members share them); and a key whose first event is not due holds back the
-- others.
create or replace function :"schema".due_pieces(
  p_group bigint, p_now timestamptz, p_since timestamptz, p_room bigint,
  p_partitions integer, p_mine integer[], p_others integer[], p_members integer, p_blocked bigint[],
  p_low bigint, p_due_low timestamptz
) returns bigint[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
  if p_partitions is null then
    return array(
      select x.id from (
        select p.id, p.suspect, row_number() over w as nth, count(*) filter (where p.suspect) over w as suspects,
          coalesce(sum(s.size) over (w rows between unbounded preceding and 1 preceding), 0) as before
        from (
          select d.* from :"schema".pieces d
          where d.group_id = p_group and d.due_at <= p_now and d.due_at >= p_since
          order by d.due_at, d.first_offset limit p_room
        ) p, lateral (select sum(upper(r) - lower(r)) as size from unnest(p.events) r) s
        window w as (order by p.due_at, p.first_offset)
      ) x where x.before < p_room and (x.suspects = 0 or x.nth = 1) order by x.nth);
  end if;
  return array(
    with due as materialized ( -- read once: behind an old snapshot much of it is over
      select d.* from :"schema".due_rows(p_group, p_now, p_low, p_due_low) d where d.partition <> all (p_others)
    ), new as materialized (
      select d.partition from due d where d.partition <> all (p_mine)
      group by d.partition order by min(d.first_offset)
      limit greatest((p_partitions + p_members - 1) / p_members - cardinality(p_mine), 0)
    )
    select x.id from (
      select p.id, row_number() over w as nth, count(*) filter (where p.suspect) over w as suspects,
        coalesce(sum(s.size) over (w rows between unbounded preceding and 1 preceding), 0) as before
      from (
        -- offset 0: in order first, and the keys of no more than there is room for are looked up.
        select o.* from (
          select d.* from due d where d.partition = any (p_mine) or d.partition = any (array(select n.partition from new n))
          order by d.first_offset offset 0
        ) o
        -- Nothing of a key before what is not due, or is and was not found.
        where o.key_hash is null or o.key_hash <> all (p_blocked) and not exists (
          select from :"schema".pieces w
          where w.group_id + 0 = p_group and w.partition = o.partition and w.key_hash = o.key_hash
            and w.first_offset + 0 < o.first_offset and (w.due_at > p_now or w.due_at > 'epoch' and w.due_at < p_due_low))
        order by o.first_offset limit p_room
      ) p, lateral (select sum(upper(r) - lower(r)) as size from unnest(p.events) r) s
      window w as (order by p.first_offset)
    ) x where x.before < p_room and (x.suspects = 0 or x.nth = 1) order by x.nth);
end
$$;
