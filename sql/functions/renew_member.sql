-- Says that a member of a group is there for another p_ms milliseconds (0: that it has left), and forgets who has not said
-- so in time. Returns its place among the members, from 0, in the order of their ids, and how many they are. Of a group
-- that was deleted nothing is written: nobody would remove it.
create or replace function :"schema".renew_member(
  p_group bigint, p_member uuid, p_ms double precision, out place integer, out members integer
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_ms > 0 then
    insert into :"schema".members as m (group_id, id, expires_at)
    select g.id, p_member, clock_timestamp() + p_ms * interval '1 ms' from :"schema".groups g where g.id = p_group
    on conflict (group_id, id) do update set expires_at = excluded.expires_at;
  end if;
  delete from :"schema".members m where ctid = any (array(
    select d.ctid from :"schema".members d
    where d.group_id = p_group and (d.expires_at <= clock_timestamp() or p_ms <= 0 and d.id = p_member)
    for update skip locked
  )) and m.group_id = p_group and (m.expires_at <= clock_timestamp() or p_ms <= 0 and m.id = p_member);
  select count(*) filter (where m.id < p_member), count(*) into place, members
  from :"schema".members m where m.group_id = p_group and m.expires_at > clock_timestamp();
end
$$;
