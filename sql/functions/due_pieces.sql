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
as $$
declare
  v_new integer[];
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
  v_new := array(
    select d.partition from :"schema".due_rows(p_group, p_now, p_low, p_due_low) d
    where d.partition <> all (p_others) and d.partition <> all (p_mine)
    group by d.partition order by min(d.first_offset)
    limit greatest((p_partitions + p_members - 1) / p_members - cardinality(p_mine), 0));
  return array(
    select x.id from (
      select p.id, row_number() over w as nth, count(*) filter (where p.suspect) over w as suspects,
        coalesce(sum(s.size) over (w rows between unbounded preceding and 1 preceding), 0) as before
      from (
        select d.* from :"schema".due_rows(p_group, p_now, p_low, p_due_low) d
        where d.partition = any (p_mine || v_new)
          -- Nothing of a key before what is not due, or is and was not found.
          and (d.key_hash is null or d.key_hash <> all (p_blocked) and not exists (
            select from :"schema".pieces w
            where w.group_id = p_group and w.partition = d.partition and w.key_hash = d.key_hash
              and w.first_offset < d.first_offset and (w.due_at > p_now or w.due_at > 'epoch' and w.due_at < p_due_low)))
        order by d.first_offset limit p_room
      ) p, lateral (select sum(upper(r) - lower(r)) as size from unnest(p.events) r) s
      window w as (order by p.first_offset)
    ) x where x.before < p_room and (x.suspects = 0 or x.nth = 1) order by x.nth);
end
$$;
