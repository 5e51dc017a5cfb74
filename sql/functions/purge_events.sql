-- Removes the rows of up to p_limit events that no reader can see any more: of deleted streams, and before the start of
-- others. Returns how many, and whether there is more to do. What it has done and what is left change in one commit, so
-- it goes on after a crash where it was. Each batch begins where the one before ended: an old snapshot keeps index
-- entries of what was removed, and nobody may wade through them. What somebody else is at is left to them.
create or replace function :"schema".purge_events(p_limit integer default 5000, out removed bigint, out more boolean)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
begin
  with next as materialized (
    select p.* from :"schema".purges p order by p.id limit 1000 for update skip locked
  ), item as materialized (
    select n.id, n.stream_id, n.to_offset is null as deleted, n.after_offset,
      coalesce(n.to_offset, last."offset", n.after_offset) as to_offset
    from next n left join lateral (
      select e."offset" from :"schema".events e
      where n.to_offset is null and e.stream_id = n.stream_id and e."offset" > n.after_offset
      order by e."offset" desc limit 1
    ) last on true
  ), share as materialized (
    select i.*, least(i.to_offset, i.after_offset + greatest(0, p_limit - coalesce(
      sum(i.to_offset - i.after_offset) over (order by i.id rows between unbounded preceding and 1 preceding), 0))::bigint) as upto
    from item i
  ), gone as (
    delete from :"schema".events e using share x
    where e.stream_id = x.stream_id and e."offset" > x.after_offset and e."offset" <= x.upto
    returning 1
  ), finished as (
    delete from :"schema".purges p using share x where p.id = x.id and x.upto = x.to_offset
  ), forgotten as (
    delete from :"schema".weights w using share x where x.deleted and w.stream_id = x.stream_id
  ), begun as (
    update :"schema".purges p set after_offset = x.upto from share x
    where p.id = x.id and x.upto > x.after_offset and x.upto < x.to_offset
  )
  select (select count(*) from gone), coalesce(bool_or(x.upto < x.to_offset), false) or count(*) = 1000
  into removed, more from share x;
end
$$;
